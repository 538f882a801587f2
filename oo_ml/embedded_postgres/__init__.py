"""A private PostgreSQL below a directory: for a first look, for development and for the tests.

It starts with its first user (a process), is shared by all of them and stops with the last, also after a kill -9.
It listens on a Unix socket only. Windows, without flock and modes of directories, needs OO_ML_DATABASE_URL.
"""

from oo_ml.embedded_postgres.server import Server, running

__all__ = ["Server", "running"]
