"""All rows of a user: in the tables declared to hold users' data, and in detached months of feature_history.

Columns are read from the catalog, so that an export also has the columns that a newer release has added.
"""

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, Final

from sqlalchemy import (
    TableClause,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    table,
    text,
    union_all,
)

from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.all_tables import ORDERS, metadata
from oo_ml.storage.schema.column_types import SCHEMA, USERS

HISTORY: Final = "feature_history"
STATE: Final = "policy_state"
# Each database numbers its rows itself; in an export, positions only give the order of the rows.
POSITION: Final = "position"

_DETACHED_MONTH: Final = re.compile(r"feature_history_\d{4}_\d{2}")
_ROWS_AT_ONCE: Final = 100


# ADR 15
# Every table that a user's rows can be in.
_DECLARED: Final = sorted(one.name for one in metadata.tables.values() if one.info == USERS)


@dataclass(frozen=True, slots=True)
class PersonalTable:
    """A table that holds rows of users.

    Attributes:
        columns: the name and PostgreSQL type of each column, in the table's order.
        key: the columns of the primary key.
        refers_to: the tables that foreign keys refer to.
    """

    name: str
    columns: Mapping[str, str]
    key: Sequence[str]
    refers_to: Sequence[str]


# A partition is reached through its parent.
_TABLES = text(r"""
    SELECT
        c.relname AS name,
        ARRAY(
            SELECT a.attname::text FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
        ) AS columns,
        ARRAY(
            SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
        ) AS types,
        ARRAY(
            SELECT a.attname::text
            FROM pg_index AS i
            CROSS JOIN unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, place)
            JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
            WHERE i.indrelid = c.oid AND i.indisprimary
            ORDER BY k.place
        ) AS key,
        ARRAY(
            SELECT r.relname::text FROM pg_constraint AS f JOIN pg_class AS r ON r.oid = f.confrelid
            WHERE f.conrelid = c.oid AND f.contype = 'f' ORDER BY r.relname
        ) AS refers_to
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'oo_ml' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND (c.relname = ANY (CAST(:declared AS text[])) OR c.relname ~ '^feature_history_\d{4}_\d{2}$')
    ORDER BY c.relname
""")


def find_tables(connection: Reading) -> list[PersonalTable]:
    """Return every table that holds rows of users, sorted by name."""
    return [
        PersonalTable(row.name, dict(zip(row.columns, row.types, strict=True)), row.key, row.refers_to)
        for row in connection.execute(_TABLES, {"declared": _DECLARED})
    ]


def group_parts(found: Iterable[PersonalTable]) -> dict[str, list[PersonalTable]]:
    """Group tables by the name that their rows have in an export: detached months belong to feature_history."""
    parts: dict[str, list[PersonalTable]] = {}
    for one in found:
        parts.setdefault(HISTORY if _DETACHED_MONTH.fullmatch(one.name) else one.name, []).append(one)
    return parts


def sort_for_inserts(found: Sequence[PersonalTable]) -> list[PersonalTable]:
    """Sort tables so that each comes after the tables that it refers to."""
    by_name = {one.name: one for one in found}
    order = TopologicalSorter({one.name: set(one.refers_to) & (by_name.keys() - {one.name}) for one in found})
    return [by_name[name] for name in order.static_order()]


def erase(connection: Writing, found: Sequence[PersonalTable], user_id: str) -> dict[str, int]:
    """Delete the user's rows; return the number of rows deleted from each table.

    It is one statement, so that it sees all tables at one moment. A table comes before the tables that it refers to: a
    distributed database runs the parts of the statement one by one, and checks foreign keys after each part.
    """
    ordered = sort_for_inserts(found)[::-1]
    gone = [
        delete(one).where(one.c.user_id == user_id).returning(one.c.user_id).cte(f"gone_{place}")
        for place, one in enumerate(map(_clause, ordered))
    ]
    counts = connection.execute(select(*(select(func.count()).select_from(one).scalar_subquery() for one in gone)))
    return dict(zip((one.name for one in ordered), counts.one(), strict=True))


def is_known(connection: Reading, found: Sequence[PersonalTable], user_id: str) -> bool:
    """Tell whether any table has a row of the user."""
    there = (exists().where(one.c.user_id == user_id) for one in map(_clause, found))
    return bool(connection.scalar(select(or_(*there))))


def read_rows(connection: Reading, parts: Sequence[PersonalTable], user_id: str) -> Generator[dict[str, Any]]:
    """Yield the user's rows of a table that has one or more parts, all columns by name.

    Rows are sorted by position, or by primary key in a table without positions. A column that a part lacks is None.
    Close the generator before the transaction ends: it holds a cursor.
    """
    types = {name: type_ for part in parts for name, type_ in part.columns.items()}
    selects = []
    for part in parts:
        clause = _clause(part)
        values = (
            clause.c[name] if name in part.columns else literal_column(f"CAST(NULL AS {type_})").label(name)
            for name, type_ in types.items()
        )
        selects.append(select(*values).where(clause.c.user_id == user_id))
    every = union_all(*selects).subquery()
    order = (POSITION, *parts[0].key) if parts[0].name in ORDERS else parts[0].key
    statement = select(*every.c).order_by(*(every.c[name] for name in order))
    with connection.execute(statement, execution_options={"yield_per": _ROWS_AT_ONCE}) as result:
        for row in result.mappings():
            yield dict(row)


def insert_rows(connection: Writing, into: PersonalTable, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns, in the order given."""
    connection.execute(insert(_clause(into)), rows)


def _clause(of: PersonalTable) -> TableClause:
    return table(of.name, *map(column, of.columns), schema=SCHEMA)
