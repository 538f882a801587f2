"""Migrations of the database, for the command line and for CI."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.util import CommandError

from oo_ml.errors import MigrationRefusedError
from oo_ml.settings import Settings
from oo_ml.storage.schema import migrate


def upgrade(url: str, settings: Settings, revision: str) -> None:
    """Migrate up to `revision`, and make the partitions of the coming months.

    Raises:
        MigrationRefusedError: the revision is unknown.
        UnavailableError: the database can't be migrated now.
    """
    with _refusals():
        migrate.upgrade(url, settings, revision)


def downgrade(url: str, settings: Settings, revision: str) -> None:
    """Migrate down to `revision`; the arguments and errors are those of `upgrade`."""
    with _refusals():
        migrate.downgrade(url, settings, revision)


def check(url: str, settings: Settings) -> None:
    """Compare the database with what this release declares.

    Raises:
        MigrationRefusedError: they differ, or the database is not at head.
    """
    with _refusals():
        migrate.check(url, settings)


def history() -> str:
    """Return the migrations of this release, one a line, the latest first."""
    return migrate.history()


def sql(revision: str) -> str:
    """Return the migrations to `revision` as SQL.

    Raises:
        MigrationRefusedError: the revision is unknown.
    """
    with _refusals():
        return migrate.sql(revision)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise MigrationRefusedError(str(error)) from None
