"""upkeep: how far each of its tasks has come; and the decisions that one of them is for."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from oo_ml.storage.history import DecisionKey
from oo_ml.storage.postgres.statements import Statement

DAYS: Final = "days"
DEFAULT_REWARDS: Final = "default-rewards"
# Its row is kept by the function that detaches months.
RETENTION: Final = "retention"


class Position(NamedTuple):
    """A place among the decisions as they were made; from one to the next, so that each is come by once."""

    decided_at: datetime
    decision_id: UUID


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that is this transaction's until it ends: nobody else is at its task meanwhile."""

    done_until: datetime | None


# Runs once for each user who gets default rewards.
_CLAIM = Statement("SELECT done_until FROM oo_ml.upkeep WHERE task = :task FOR UPDATE SKIP LOCKED")

_WAIT = text("SELECT FROM oo_ml.upkeep WHERE task = :task FOR UPDATE")

_IS_THERE = text("SELECT EXISTS (SELECT FROM oo_ml.upkeep WHERE task = :task)")

_LOCK_TIMEOUT = text("SELECT current_setting('lock_timeout')")

_SET_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :limit, true)")

_CREATE = text("INSERT INTO oo_ml.upkeep (task) VALUES (:task) ON CONFLICT DO NOTHING RETURNING task")

_SAVE = text("UPDATE oo_ml.upkeep SET done_until = :done_until, ran_at = :ran_at WHERE task = :task")

# The index on decided_at serves both queries, see decision_tables.py.
_FIRST = text("SELECT min(decided_at) FROM oo_ml.feature_history")

_OVERDUE = text("""
    SELECT user_id, decision_id, decided_at
    FROM oo_ml.feature_history
    WHERE decided_at >= :decided_at AND decided_at < :until AND (decided_at, decision_id) > (:decided_at, :decision_id)
        AND reward IS NULL AND reward_kind IS NULL
    ORDER BY decided_at, decision_id
    LIMIT :limit
""")


def claim(connection: Connection, task: str) -> Claim | None:
    """Take a task for this transaction, without waiting; lock it before any other row.

    Return None if another transaction has it. A row that a restored database came without is made.
    """
    rows = _CLAIM.run(connection, {"task": task})
    if rows:
        [(done_until,)] = rows
        return Claim(done_until)
    # Asked before it is made: INSERT would wait for a transaction that has updated the row.
    is_there = connection.scalar(_IS_THERE, {"task": task})
    return Claim(None) if not is_there and create(connection, task) else None


def exclude(connection: Connection, task: str) -> None:
    """Lock a task until this transaction ends; wait for a step of it as long as a statement of this session may run."""
    limit = connection.scalar(_LOCK_TIMEOUT)
    # A step may take longer than the lock timeout, which is meant for the rows of users.
    connection.execute(_SET_LOCK_TIMEOUT, {"limit": "0"})
    connection.execute(_WAIT, {"task": task})
    connection.execute(_SET_LOCK_TIMEOUT, {"limit": limit})


def create(connection: Connection, task: str) -> bool:
    """Make the row of a task if it is missing; return whether it was."""
    return connection.execute(_CREATE, {"task": task}).one_or_none() is not None


def save(connection: Connection, task: str, done_until: datetime | None, ran_at: datetime) -> None:
    """Write down how far a task that is claimed has come."""
    connection.execute(_SAVE, {"task": task, "done_until": done_until, "ran_at": ran_at})


def overdue(connection: Connection, after: Position, until: datetime, limit: int) -> dict[DecisionKey, Position]:
    """Return the first decisions, at most `limit`, between two times that nothing has been said of to this day."""
    rows = connection.execute(_OVERDUE, {**after._asdict(), "until": until, "limit": limit})
    return {DecisionKey(row.user_id, row.decision_id): Position(row.decided_at, row.decision_id) for row in rows}


def first(connection: Connection) -> datetime | None:
    """Return the time of the first decision that there is."""
    moment: datetime | None = connection.scalar(_FIRST)
    return moment
