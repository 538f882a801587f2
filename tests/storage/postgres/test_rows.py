"""Multi-row writes derived from a table's declaration: every column of every row arrives unchanged."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH, MAX_CACHED_STATEMENT_PARAMS
from sqlalchemy import BigInteger, Boolean, Column, Engine, Integer, MetaData, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import BYTEA, DOUBLE_PRECISION, JSONB, TIMESTAMP

from oo_ml.storage import feature_history, reward_ledger
from oo_ml.storage.postgres.rows import Rows
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.schema.column_types import Float8Array
from tests.sessions import writing

THINGS: Final = Table(
    "things",
    MetaData(schema="pg_temp"),
    Column("id", Integer, primary_key=True),
    Column("name", Text),
    Column("big", BigInteger),
    Column("number", DOUBLE_PRECISION),
    Column("flag", Boolean),
    Column("uuid", Uuid),
    Column("at", TIMESTAMP(timezone=True)),
    Column("digest", BYTEA),
    Column("document", JSONB),
    Column("vector", Float8Array),
    Column("matrix", Float8Array(2)),
)


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """A row of `things`."""

    id: int
    name: str | None
    vector: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @property
    def columns(self) -> tuple[Any, ...]:
        """The values that do not depend on the arrays, in the order of the table."""
        if self.name is None:
            return (self.id, None, None, None, True, None, None, None, [self.id])
        at = datetime(2026, 11, 23, self.id, tzinfo=UTC)
        return (self.id, self.name, 2**40, -0.5, False, UUID(int=self.id), at, bytes([self.id]), {"id": self.id})


def things(name: str = "thing") -> list[Thing]:
    """Return rows with arrays of different sizes; the second row has nulls."""
    random = np.random.default_rng(1)
    return [
        Thing(number, None if number == 2 else f"{name} {number}", random.normal(size=size), random.normal(size=(d, d)))
        for number, size, d in [(1, 5, 5), (2, 1, 7), (3, 7, 1), (4, 2, 2)]
    ]


ROWS: Final = Rows[
    Thing
](
    "thing",
    THINGS,
    {
        **{
            column.name: lambda thing, place=place: thing.columns[place]  # type: ignore[misc] # the default is the place
            for place, column in enumerate(list(THINGS.c)[:9])
        },
        "vector": lambda thing: thing.vector,
        "matrix": lambda thing: thing.matrix,
    },
)


@pytest.fixture
def sql() -> str:
    """The statement that creates the table."""
    types = {"id": "integer PRIMARY KEY", "name": "text", "big": "bigint", "number": "float8", "flag": "boolean"}
    types |= {"uuid": "uuid", "at": "timestamptz", "digest": "bytea", "document": "jsonb"}
    types |= {"vector": "float8[]", "matrix": "float8[]"}
    return f"CREATE TEMP TABLE things ({', '.join(f'{name} {type_}' for name, type_ in types.items())})"


def stored(connection: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - a connection
    """Return the rows of the table, with arrays as lists."""
    rows = connection.execute(text("SELECT * FROM pg_temp.things ORDER BY id")).all()
    return [(*row[:9], row.vector.tolist(), row.matrix.tolist()) for row in rows]


def expected(rows: list[Thing]) -> list[tuple[Any, ...]]:
    """Return what the table has to hold."""
    return [(*row.columns, row.vector.tolist(), row.matrix.tolist()) for row in rows]


def test_insert_of_every_type(db: Engine, sql: str) -> None:
    """Each value arrives in its row and column, with nulls, and arrays of any size keep their shape and bits."""
    with writing(db) as connection:
        connection.execute(text(sql))
        Statement(ROWS.insert_sql()).run(connection, ROWS.parameters(things()))
        assert stored(connection) == expected(things())


def test_update_by_primary_key(db: Engine, sql: str) -> None:
    """An UPDATE sets the other columns of exactly the rows that it names, in whatever order they are given."""
    before, after = things(), things("other")
    with writing(db) as connection:
        connection.execute(text(sql))
        Statement(ROWS.insert_sql()).run(connection, ROWS.parameters(before))
        Statement(ROWS.update_sql()).run(connection, ROWS.parameters([after[3], after[0]]))
        assert stored(connection) == expected([after[0], before[1], before[2], after[3]])


def test_no_rows(db: Engine, sql: str) -> None:
    """A statement without rows writes nothing."""
    with writing(db) as connection:
        connection.execute(text(sql))
        Statement(ROWS.insert_sql()).run(connection, ROWS.parameters([]))
        assert stored(connection) == []


def test_rows_are_numbered(db: Engine, sql: str) -> None:
    """`place` counts the rows from 1 in the order given, so that a statement can keep that order."""
    with writing(db) as connection:
        connection.execute(text(sql))
        statement = Statement(f"SELECT thing.place, thing.id FROM {ROWS.source} ORDER BY thing.place")  # noqa: S608
        found = statement.run(connection, ROWS.parameters(things()[::-1]))
    assert found == [(1, 4), (2, 3), (3, 2), (4, 1)]


def test_unknown_column() -> None:
    """A column that the table does not declare is refused when the module is imported."""
    with pytest.raises(KeyError, match="colour"):
        Rows[Thing]("thing", THINGS, {"colour": lambda thing: thing.name})


@pytest.mark.parametrize("statement", [feature_history._INSERT, reward_ledger._INSERT], ids=["decisions", "ledger"])  # noqa: SLF001
def test_hot_statements_fit_the_cache_of_psycopg(statement: Statement) -> None:
    """Psycopg parses a longer statement, or one with more parameters, anew for each execution."""
    sql = statement._sql  # noqa: SLF001 - as it is sent
    assert len(sql) <= MAX_CACHED_STATEMENT_LENGTH
    assert len({part.split(")s")[0] for part in sql.split("%(")[1:]}) <= MAX_CACHED_STATEMENT_PARAMS
