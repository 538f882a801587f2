"""Revisions of the schema: those of this release and that of a database, read without alembic, which is slow to import.

The name of a migration's file has its revision; tests/migrations/test_revisions.py compares the names with alembic.
"""

import re
from functools import cache
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from oo_ml.errors import SchemaNotReadyError, UnavailableError, UnsuitableDatabaseError
from oo_ml.storage.schema import database_checks

_FILE_NAME: Final = re.compile(r"\d{4}_\d\d_\d\d_(\d{4})_(?:pre|post)_\w+\.py")

_HAS_VERSION: Final = text("SELECT to_regclass('oo_ml.alembic_version') IS NOT NULL")
_VERSION: Final = text("SELECT version_num FROM oo_ml.alembic_version")


def scripts() -> Path:
    """Return the directory of the migrations."""
    package = Path(__file__).parents[2]
    # The wheel carries the migrations inside the package; a checkout has them beside it.
    installed = package / "_alembic"
    return installed if installed.is_dir() else package.parent / "alembic"


@cache
def known() -> frozenset[str]:
    """Return all revisions of this release."""
    names = map(_FILE_NAME.fullmatch, (path.name for path in (scripts() / "versions").iterdir()))
    return frozenset(name[1] for name in names if name)


def head() -> str:
    """Return the latest revision of this release."""
    return max(known())


def read(connection: Connection) -> str | None:
    """Return the revision in oo_ml.alembic_version; None before the first migration."""
    if not connection.scalar(_HAS_VERSION):
        return None
    found: str | None = connection.scalar(_VERSION)
    return found


def read_ours(connection: Connection) -> str | None:
    """Return the same, after checking that the tables are oO ML's, of this release or a newer one.

    Raises:
        UnsuitableDatabaseError: they are not, or the encoding is not UTF8.
    """
    return database_checks.revision_of_ours(connection, read(connection), known())


def readiness(connection: Connection) -> UnavailableError | None:
    """Return the reason why this release can't use the database; None if it can.

    The database must be at head, or at a later revision of a newer release.
    """
    try:
        here = read_ours(connection)
    except UnsuitableDatabaseError as error:
        return error
    if here is None or here in known() - {head()}:
        return SchemaNotReadyError()
    return database_checks.missing_reports(connection)
