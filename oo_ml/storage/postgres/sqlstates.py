"""Errors of PostgreSQL: from SQLSTATE to an error of the service.

docs/reliability.md has the same table, with the reaction of the service. Appendix A of PostgreSQL's manual lists the
codes.
"""

from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError

from oo_ml import errors
from oo_ml.storage.postgres import causes

SERIALIZATION_FAILURES: Final = frozenset({"40001", "40P01"})
UNIQUE_VIOLATION: Final = "23505"
_MISSING_RIGHT: Final = "42501"
_MEANINGS: Final[dict[str, type[errors.UnavailableError]]] = {
    "40001": errors.DatabaseTimeoutError,
    "40P01": errors.DatabaseTimeoutError,
    "55P03": errors.RowLockedError,
    "57014": errors.DatabaseTimeoutError,
    "25P03": errors.DatabaseTimeoutError,
    "25006": errors.DatabaseReadOnlyError,
    # A prepared statement is missing, or is there already: a pooler has given the transaction another session.
    "26000": errors.LostStatementError,
    "42P05": errors.LostStatementError,
    # A schema, table, column or function of this release is missing.
    "3F000": errors.SchemaNotReadyError,
    "42P01": errors.SchemaNotReadyError,
    "42703": errors.SchemaNotReadyError,
    "42883": errors.SchemaNotReadyError,
}
# No connection, no resources, shutting down, no such role, no such database.
_UNAVAILABLE: Final = ("08", "53", "57P", "28", "3D")


def sqlstate(error: DBAPIError) -> str | None:
    """Return PostgreSQL's code for `error`; None if the error was raised on the client's side of the connection."""
    return error.orig.sqlstate if isinstance(error.orig, psycopg.Error) else None


def description(error: DBAPIError) -> str:
    """Return one line about `error`, without DETAIL, because PostgreSQL quotes whole rows there."""
    if not isinstance(error.orig, psycopg.Error) or error.orig.sqlstate is None:
        return " ".join(str(error.orig).split())
    diagnosis = error.orig.diag
    where = f" ({diagnosis.constraint_name})" if diagnosis.constraint_name else ""
    return f"{error.orig.sqlstate} {diagnosis.message_primary}{where}"


def outcome(error: DBAPIError) -> errors.UnavailableError | None:
    """Return the error of the service for `error`; None if only a bug can cause it."""
    code = sqlstate(error)
    if code is None:
        return _no_connection(str(error.orig)) if isinstance(error.orig, psycopg.OperationalError) else None
    if code == _MISSING_RIGHT:
        return errors.DatabaseRefusedError(f"PostgreSQL refused: {description(error).removeprefix(code).strip()}")
    if code.startswith(_UNAVAILABLE):
        return errors.DatabaseUnavailableError(cause=description(error).removeprefix(code).strip())
    return _MEANINGS[code]() if code in _MEANINGS else None


def _no_connection(text: str) -> errors.DatabaseUnavailableError:
    if causes.is_of_address(text):
        return errors.UnusableAddressError(cause=causes.describe(text))
    return errors.DatabaseUnavailableError(cause=causes.describe(text))
