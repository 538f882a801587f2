"""Sessions for tests that call services or the storage themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from oo_ml.storage.postgres.sessions import Reading, Writing


@contextmanager
def writing(db: Engine) -> Iterator[Writing]:
    """Yield a session in a transaction that commits at the end of the block."""
    with db.begin() as connection:
        yield Writing(Reading(connection))


@contextmanager
def open_session(db: Engine) -> Iterator[Writing]:
    """Yield a session whose transactions the test itself ends; an open one is rolled back at the end of the block."""
    with db.connect() as connection:
        yield Writing(Reading(connection))
