"""Tests of access to the calls."""
