"""The months of feature_history: which there are, which are missing, which are past retention.

Months are UTC's and are named by their first moment. alembic/sql/0001/05_months.sql has the functions that make and
detach them, with the rights of the tables' owner.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, text

from oo_ml.domain.identifiers import first_id, time_of
from oo_ml.storage import upkeep

# This month and the three after it.
MONTHS_AHEAD: Final = 4
# Decisions that a month may take out of the default partition while calls wait for it, and as many as _UNMOVED times
# that may lie there in all: PostgreSQL reads the whole partition before it believes that none is left behind.
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

# Whoever waits for a whole table keeps everybody waiting who comes after it; so this one would rather come again.
_BRIEFLY = text("SET LOCAL lock_timeout = '200ms'")

_STRAY = text("""
    SELECT decision_id
    FROM oo_ml.feature_history
    WHERE decision_id >= :first AND decision_id < :last
    ORDER BY decision_id
    LIMIT 1
""")


@dataclass(frozen=True, slots=True)
class Layout:
    """How feature_history is divided.

    Attributes:
        months: those that have a partition, in order.
        is_changeable: whether the role at work may make and detach months.
    """

    months: Sequence[datetime]
    is_changeable: bool


def month_of(moment: datetime, later: int = 0) -> datetime:
    """Return the month of a moment, or the one that is so many months later."""
    moment = moment.astimezone(UTC)
    years, month = divmod(moment.month - 1 + later, 12)
    return datetime(moment.year + years, month + 1, 1, tzinfo=UTC)


def layout(connection: Connection) -> Layout:
    """Return how the table is divided; partitions that somebody named otherwise are theirs."""
    row = connection.execute(_LAYOUT).one()
    names = filter(None, map(_NAME.fullmatch, row.partitions))
    return Layout([datetime(int(name[1]), int(name[2]), 1, tzinfo=UTC) for name in names], row.is_changeable)


def missing(months: Sequence[datetime], now: datetime, ahead: int = MONTHS_AHEAD) -> list[datetime]:
    """Return which of the `ahead` months from this one on are not in `months`."""
    return [month for month in (month_of(now, later) for later in range(ahead)) if month not in months]


def is_crowded(connection: Connection, month: datetime, movable: int = MOVABLE) -> bool:
    """Whether so many decisions wait in the default partition that making a month would keep calls from it too long.

    The query names that partition, so that only rows in it are read.
    """
    limit = movable * _UNMOVED
    names = {"first": first_id(month), "last": first_id(month_of(month, 1)), "limit": limit + 1}
    waiting = connection.execute(_WAITING, names).one()
    return bool(waiting.of_month > movable or waiting.of_all > limit)


# ADR 2
def make(connection: Connection, month: datetime) -> list[str]:
    """Make a month, with what waits for it in the default partition; return the table's name, unless it was there."""
    return list(connection.scalars(_MAKE, {"first": month, "months": 1}))


def make_ahead(connection: Connection, now: datetime) -> list[str]:
    """Make this month and the next ones as far as they are missing; return the tables' names."""
    return list(connection.scalars(_MAKE, {"first": now, "months": MONTHS_AHEAD}))


def detach(connection: Connection, before: datetime, detached_at: datetime) -> list[str]:
    """Detach the months that end by `before`; return the names of the tables, which stay."""
    # The function holds this row, so that two don't detach at once.
    upkeep.create(connection, upkeep.RETENTION)
    return list(connection.scalars(_DETACH, {"before": before, "detached_at": detached_at}))


def briefly(connection: Connection) -> None:
    """Let the rest of the transaction wait for a table no longer than calls can bear to wait behind it."""
    connection.execute(_BRIEFLY)


def stray(connection: Connection, months: Sequence[datetime], now: datetime) -> datetime | None:
    """Return the first month until now that has no partition but decisions, which lie in the default one.

    Months before the first that there is are past retention, or from before the service began: ids of such a time are a
    client's own. Asked of the table as a whole, by the ids that no month covers: the service may have no right to a
    partition itself.
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
