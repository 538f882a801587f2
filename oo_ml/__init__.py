"""oO ML: which tip to show next, for each person, learned from their reactions and kept in PostgreSQL."""

from importlib.metadata import version

__version__ = version("oo-ml")
