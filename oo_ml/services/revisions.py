"""The revision of the database, without alembic, which is slow to import."""

from dataclasses import dataclass

from oo_ml.settings import Settings
from oo_ml.storage.schema import migration_session, revisions


@dataclass(frozen=True, slots=True)
class Revision:
    """The revision of the database, None if it has no tables, and the revision that this release needs."""

    database: str | None
    release: str


def find_revision(url: str, settings: Settings) -> Revision:
    """Return the revision of the database and that of this release."""
    return Revision(migration_session.current(url, settings), revisions.head())


def describe_revision(url: str, settings: Settings) -> str:
    """Return both revisions as one line."""
    found = find_revision(url, settings)
    return f"{found.database or 'empty'} (this release: {found.release})"
