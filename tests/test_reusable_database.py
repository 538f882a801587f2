"""The rows and tables that a test finds, whatever the test before has done."""

from typing import Any, Final

import psycopg
import pytest

from tests.reusable_database import ReusableDatabase

_TABLES: Final = ("policies", "upkeep", "daily_done")


def _contents(connection: psycopg.Connection[Any]) -> list[object]:
    """Return which database it is, and the rows of its tables."""
    statements = [f"SELECT CAST(t AS text) FROM oo_ml.{table} AS t" for table in _TABLES]  # noqa: S608 - constants
    database = "SELECT oid FROM pg_database WHERE datname = current_database()"
    return [connection.execute(statement.encode()).fetchall() for statement in [database, *statements]]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM oo_ml.upkeep",
        "INSERT INTO oo_ml.daily_done VALUES ('2026-01-01', 'v1', 1)",
        """
        INSERT INTO oo_ml.policies
        SELECT (jsonb_populate_record(p, '{"policy": "other"}')).* FROM oo_ml.policies AS p LIMIT 1
        """,
    ],
)
def test_changed_rows(clean_database: ReusableDatabase, change: str) -> None:
    """After a change of rows, the same database holds the rows of the migrations again."""
    with clean_database.connect() as connection:
        before = _contents(connection)
        connection.execute(change.encode())
        assert _contents(connection) != before

    clean_database.clean()

    with clean_database.connect() as connection:
        assert _contents(connection) == before


def test_changed_schema(clean_database: ReusableDatabase) -> None:
    """After a change of the schema, a new database holds the tables and rows of the migrations."""
    with clean_database.connect() as connection:
        identity, *before = _contents(connection)
        connection.execute("ALTER TABLE oo_ml.policies ADD COLUMN more text")

    clean_database.clean()

    with clean_database.connect() as connection:
        other, *after = _contents(connection)
    assert (other != identity, after) == (True, before)
