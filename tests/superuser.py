"""Changes of a database that only a superuser may make: to its tables, or to rows without the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool


@contextmanager
def superuser(db: Engine) -> Iterator[Connection]:
    """Open a superuser's transaction on the database of an engine."""
    with _engine(db.url.set(drivername="postgresql+psycopg", username="postgres")).begin() as connection:
        yield connection


@cache
def _engine(url: URL) -> Engine:
    """Return an engine without connections, which has asked the server for its version."""
    return create_engine(url, poolclass=NullPool)


def tamper(db: Engine, statement: str, **parameters: object) -> None:
    """Run one statement as a superuser."""
    with superuser(db) as connection:
        connection.execute(text(statement), parameters)
