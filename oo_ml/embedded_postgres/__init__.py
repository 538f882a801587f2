"""A private PostgreSQL in a directory: for a first look, for development and for the tests (ADR 4).

The first process that uses the server starts it; all processes share it; the last one stops it, even after a kill -9.
The server listens on a Unix socket only, in a directory that other accounts can't enter.
"""

from oo_ml.embedded_postgres.server import Server, running

__all__ = ["Server", "running"]
