"""Statements of the hot path: SQLAlchemy's connection, transaction, events and errors, but psycopg's own rows.

For each execution SQLAlchemy builds a context, a compiled form and a result with its description. For a fixed text with
binary parameters that is two thirds of the client's time for a statement (docs/performance.md).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from psycopg.pq import ExecStatus
from sqlalchemy import Connection

_PARAMETER: Final = re.compile(r"(?<!:):(\w+)")


class Statement:
    """A statement with a fixed text; its parameters are written :name, as in SQLAlchemy's text()."""

    def __init__(self, sql: str) -> None:
        # psycopg reads % as the start of a parameter, and %% as %.
        self._sql = _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run the statement in the connection's transaction; return its rows, or an empty list if it returns none.

        Raises:
            DBAPIError: as SQLAlchemy would raise it; a lost connection is invalidated.
        """
        if not connection.in_transaction():
            connection.begin()
        cursor = connection.connection.cursor()
        # SQLAlchemy runs its own sequences and defaults by this call: events, logging and errors are as for any other.
        connection._cursor_execute(cursor, self._sql, parameters)  # noqa: SLF001
        # psycopg makes `description` anew each time, an object a column.
        return list(cursor.fetchall()) if cursor.pgresult.status == ExecStatus.TUPLES_OK else []
