"""The revision of a database, without alembic, which is slow to import."""

from oo_ml.settings import Settings
from oo_ml.storage.schema import migration_session, revisions


def describe_revision(url: str, settings: Settings) -> str:
    """Return the revision of the database and that of this release."""
    return f"{migration_session.current(url, settings) or 'empty'} (this release: {revisions.head()})"
