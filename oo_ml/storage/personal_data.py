"""All rows of a user: in the tables declared to hold users' data, and in detached months of feature_history.

Columns are read from the catalog, so that those that a newer release has added are exported too.
"""

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import islice
from typing import Any, Final

from sqlalchemy import (
    Connection,
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

from oo_ml.storage.schema.column_types import SCHEMA, USERS
from oo_ml.storage.schema.tables import ORDERS, metadata

HISTORY: Final = "feature_history"
STATE: Final = "policy_state"
LEDGER: Final = "reward_ledger"
# Each database gives out positions of its own; elsewhere they only say in which order rows belong.
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
        columns: the type of each, as PostgreSQL calls it, in the table's order.
        key: the columns of its primary key.
        refers_to: the tables that its foreign keys lead to.
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


def tables(connection: Connection) -> list[PersonalTable]:
    """Return every table that holds rows of users, sorted by name."""
    return [
        PersonalTable(row.name, dict(zip(row.columns, row.types, strict=True)), row.key, row.refers_to)
        for row in connection.execute(_TABLES, {"declared": _DECLARED})
    ]


def whole(found: Iterable[PersonalTable]) -> dict[str, list[PersonalTable]]:
    """Return tables by the name that their rows go under: detached months of the history are the history still."""
    parts: dict[str, list[PersonalTable]] = {}
    for one in found:
        parts.setdefault(HISTORY if _DETACHED_MONTH.fullmatch(one.name) else one.name, []).append(one)
    return parts


def referred_first(found: Sequence[PersonalTable]) -> list[PersonalTable]:
    """Return tables in an order in which they can be filled: none before one that it refers to."""
    by_name = {one.name: one for one in found}
    order = TopologicalSorter({one.name: set(one.refers_to) & (by_name.keys() - {one.name}) for one in found})
    return [by_name[name] for name in order.static_order()]


def erase(connection: Connection, found: Sequence[PersonalTable], user_id: str) -> dict[str, int]:
    """Delete the user's rows; return how many there were in each table.

    One statement, so that it sees all tables as they are at one moment. A table comes before those that it refers to:
    a distributed database runs the parts of the statement one after another, and checks foreign keys after each.
    """
    ordered = referred_first(found)[::-1]
    gone = [
        delete(one).where(one.c.user_id == user_id).returning(one.c.user_id).cte(f"gone_{place}")
        for place, one in enumerate(map(_clause, ordered))
    ]
    counts = connection.execute(select(*(select(func.count()).select_from(one).scalar_subquery() for one in gone)))
    return dict(zip((one.name for one in ordered), counts.one(), strict=True))


def is_known(connection: Connection, found: Sequence[PersonalTable], user_id: str) -> bool:
    """Tell whether there is any row of the person."""
    there = (exists().where(one.c.user_id == user_id) for one in map(_clause, found))
    return bool(connection.scalar(select(or_(*there))))


def rows(connection: Connection, parts: Sequence[PersonalTable], user_id: str) -> Generator[dict[str, Any]]:
    """Yield the person's rows of a table that is in one or more parts, all columns by name, a few at a time.

    Sorted by primary key, rows that have positions by those. A column that a part does not have is None.
    To be closed before the transaction ends.
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
    # Closed before the transaction ends, even by whoever does not want them all: its cursor lives no longer.
    with connection.execute(statement, execution_options={"yield_per": _ROWS_AT_ONCE}) as result:
        for row in result.mappings():
            yield dict(row)


def insert_rows(connection: Connection, into: PersonalTable, new: Iterable[Mapping[str, Any]]) -> int:
    """Write rows that all have the same columns, in the order given; return how many there were."""
    written, waiting = 0, iter(new)
    while batch := list(islice(waiting, _ROWS_AT_ONCE)):
        connection.execute(insert(_clause(into)), batch)
        written += len(batch)
    return written


def _clause(of: PersonalTable) -> TableClause:
    return table(of.name, *map(column, of.columns), schema=SCHEMA)
