"""The monthly partitions of feature_history: list, create and detach them.

A month is a datetime: its first moment, UTC. The functions in alembic/sql/0001/05_partitions.sql create and detach
partitions with the rights of the tables' owner (ADR 2).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import text

from oo_ml.domain.identifiers import first_id, time_of
from oo_ml.storage import upkeep
from oo_ml.storage.postgres.sessions import Reading, Writing

# This month and the three after it.
MONTHS_AHEAD: Final = 4
# Creating a month moves its decisions out of the default partition while calls wait. At most MOVABLE may move. The
# default partition may hold _UNMOVED times as many in all: PostgreSQL reads all of it to check that none is left.
MOVABLE: Final = 10_000
_UNMOVED: Final = 10

_NAME: Final = re.compile(r"feature_history_(\d{4})_(\d\d)")

_LAYOUT = text("""
    SELECT
        has_function_privilege('oo_ml.create_feature_history_months(timestamptz, integer)', 'EXECUTE')
        AND has_function_privilege('oo_ml.detach_feature_history_months(timestamptz, timestamptz)', 'EXECUTE')
        AS is_changeable,
        ARRAY(
            SELECT p.relname::text
            FROM pg_inherits AS i
            JOIN pg_class AS p ON p.oid = i.inhrelid
            WHERE i.inhparent = 'oo_ml.feature_history'::regclass
            ORDER BY p.relname
        ) AS partitions
""")

_MAKE = text("SELECT oo_ml.create_feature_history_months(:first, :months)")

_WAITING = text("""
    SELECT count(*) FILTER (WHERE decision_id >= :first AND decision_id < :last) AS of_month, count(*) AS of_all
    FROM (SELECT decision_id FROM oo_ml.feature_history_default LIMIT :limit) AS waiting
""")

_DETACH = text("SELECT oo_ml.detach_feature_history_months(:before, :detached_at)")

# While a session waits for a lock on a table, later calls wait behind it. So upkeep gives up early and retries later.
_SHORT_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '200ms'")

_STRAY = text("""
    SELECT decision_id
    FROM oo_ml.feature_history
    WHERE decision_id >= :first AND decision_id < :last
    ORDER BY decision_id
    LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Layout:
    """The months that have a partition, in order, and whether the current role may create and detach months."""

    months: Sequence[datetime]
    is_changeable: bool


def month_of(moment: datetime, later: int = 0) -> datetime:
    """Return the month that is `later` months after the month of `moment`."""
    moment = moment.astimezone(UTC)
    years, month = divmod(moment.month - 1 + later, 12)
    return datetime(moment.year + years, month + 1, 1, tzinfo=UTC)


def read_layout(connection: Reading) -> Layout:
    """Return the layout. Partitions with other names belong to the administrator and are ignored."""
    row = connection.execute(_LAYOUT).one()
    names = filter(None, map(_NAME.fullmatch, row.partitions))
    return Layout([datetime(int(name[1]), int(name[2]), 1, tzinfo=UTC) for name in names], row.is_changeable)


def find_missing(months: Sequence[datetime], now: datetime, ahead: int = MONTHS_AHEAD) -> list[datetime]:
    """Return those of the `ahead` months, from the month of `now` on, that are not in `months`."""
    return [month for month in (month_of(now, later) for later in range(ahead)) if month not in months]


def is_crowded(connection: Reading, month: datetime, movable: int = MOVABLE) -> bool:
    """Tell whether the default partition holds so many decisions that creating the month would block calls too long.

    The query names the default partition, so it reads no other rows.
    """
    limit = movable * _UNMOVED
    names = {"first": first_id(month), "last": first_id(month_of(month, 1)), "limit": limit + 1}
    waiting = connection.execute(_WAITING, names).one()
    return bool(waiting.of_month > movable or waiting.of_all > limit)


# ADR 2
def make(connection: Writing, month: datetime) -> list[str]:
    """Create the partition of a month and move its decisions there; return its name, or [] if it already exists."""
    return list(connection.scalars(_MAKE, {"first": month, "months": 1}))


def make_ahead(connection: Writing, now: datetime) -> list[str]:
    """Create the missing partitions of this month and the next ones; return their names."""
    return list(connection.scalars(_MAKE, {"first": now, "months": MONTHS_AHEAD}))


def detach(connection: Writing, before: datetime, detached_at: datetime) -> list[str]:
    """Detach the months that end by `before`; return the names of their tables, which are kept."""
    # The SQL function locks this row, so two sessions can't detach at the same time.
    upkeep.create(connection, upkeep.RETENTION)
    return list(connection.scalars(_DETACH, {"before": before, "detached_at": detached_at}))


def shorten_lock_timeout(connection: Writing) -> None:
    """Set a short lock_timeout for the rest of the transaction, because calls wait behind it."""
    connection.execute(_SHORT_LOCK_TIMEOUT)


def find_stray(connection: Reading, months: Sequence[datetime], now: datetime) -> datetime | None:
    """Return the first month until now without a partition that has decisions, which are in the default partition.

    Months before the first partition don't count: they are past retention, or clients chose ids of that time. The query
    reads feature_history by the ranges of ids between partitions, because the service may lack rights to a partition.
    """
    past = [month for month in months if month <= now]
    begins = [month_of(month, 1) for month in past] or [month_of(now)]
    ends = [*past[1:], month_of(now, 1)]
    for begin, end in zip(begins, ends, strict=True):
        if begin < end:
            found = connection.scalar(_STRAY, {"first": first_id(begin), "last": first_id(end)})
            if found is not None:
                return month_of(time_of(found))
    return None
