"""A private PostgreSQL below a directory: for a first look, for development and for the tests.

It starts with its first user (a process), is shared by all of them and stops with the last, also after a kill -9.
It listens on a Unix socket only, in a directory that is closed to others.
"""

from oo_ml.embedded_postgres.server import Server, running

__all__ = ["Server", "running"]
