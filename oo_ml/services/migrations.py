"""Migrations of the database, for the command line and for CI."""

from oo_ml.settings import Settings
from oo_ml.storage.schema import migrate
from oo_ml.storage.schema.migrate import check, downgrade, history, sql, upgrade

__all__ = ["check", "describe_revision", "downgrade", "history", "sql", "upgrade"]


def describe_revision(url: str, settings: Settings) -> str:
    """Return the revision of the database and that of this release."""
    return f"{migrate.current(url, settings) or 'empty'} (this release: {migrate.head()})"
