"""What PostgreSQL's refusals mean: from SQLSTATE to an outcome of the service.

The same table, with what the service does, is in docs/reliability.md; the codes are in appendix A of PostgreSQL's
manual.
"""

from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from oo_ml.errors import (
    DatabaseReadOnlyError,
    DatabaseTimeoutError,
    DatabaseUnavailableError,
    OoMlError,
    SchemaNotReadyError,
)

SERIALIZATION_FAILURES: Final = frozenset({"40001", "40P01"})
_TIMEOUTS: Final = frozenset({"55P03", "57014", "25P03"})
_READ_ONLY: Final = frozenset({"25006"})
# 3D000: the database itself is missing; 42P01, 42703, 42883: a table, column or function of this release is.
_SCHEMA_NOT_READY: Final = frozenset({"42P01", "42703", "42883"})
_UNAVAILABLE_CLASSES: Final = ("08", "53", "57P", "28", "3D")


def sqlstate(error: DBAPIError) -> str | None:
    """Return PostgreSQL's code for `error`, or None when it came from the client's side of the connection."""
    return error.orig.sqlstate if isinstance(error.orig, psycopg.Error) else None


def outcome(error: DBAPIError | PoolTimeoutError) -> OoMlError | None:
    """Return what `error` means for the caller; None for what can only be a bug."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseTimeoutError()
    code = sqlstate(error)
    if code in _TIMEOUTS or code in SERIALIZATION_FAILURES:
        return DatabaseTimeoutError()
    if code in _READ_ONLY:
        return DatabaseReadOnlyError()
    if code in _SCHEMA_NOT_READY:
        return SchemaNotReadyError()
    if isinstance(error.orig, psycopg.OperationalError) and (code is None or code.startswith(_UNAVAILABLE_CLASSES)):
        return DatabaseUnavailableError()
    return None
