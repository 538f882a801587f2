"""The command line: one module a noun."""

from oo_ml.cli.main import main

__all__ = ["main"]
