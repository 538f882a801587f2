"""Policies: the registry, and the policies that a process decides by."""
