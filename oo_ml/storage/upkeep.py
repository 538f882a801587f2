"""The table `upkeep`, which records how far each upkeep task has come, and the queries that find a task's decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from oo_ml.storage.decision_types import DecisionKey
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.postgres.statements import Statement

DAYS: Final = "days"
DEFAULT_REWARDS: Final = "default-rewards"
PRIORS: Final = "priors"
# The function that detaches months writes this row.
RETENTION: Final = "retention"


class Position(NamedTuple):
    """Keyset cursor over decisions by (decided_at, decision_id); visits every decision exactly once."""

    decided_at: datetime
    decision_id: UUID


@dataclass(frozen=True, slots=True)
class LastSuccess:
    """Time of the last step, and the seconds since then by the database's clock."""

    at: datetime
    seconds_ago: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A task whose row this transaction has locked, so that no other transaction runs it."""

    done_until: datetime | None


# A Statement, because it runs once for each user who gets default rewards.
_CLAIM = Statement("SELECT done_until FROM oo_ml.upkeep WHERE task = :task FOR UPDATE SKIP LOCKED")

_WAIT = text("SELECT FROM oo_ml.upkeep WHERE task = :task FOR UPDATE")

_EXISTS = text("SELECT EXISTS (SELECT FROM oo_ml.upkeep WHERE task = :task)")

_LOCK_TIMEOUT = text("SELECT current_setting('lock_timeout')")

_SET_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :limit, true)")

_CREATE = text("INSERT INTO oo_ml.upkeep (task) VALUES (:task) ON CONFLICT DO NOTHING RETURNING task")

_SAVE = text("UPDATE oo_ml.upkeep SET done_until = :done_until, ran_at = :ran_at WHERE task = :task")

_LAST_SUCCESS = text("""
    SELECT min(ran_at) AS ran_at, CAST(extract(epoch FROM now() - min(ran_at)) AS float8) AS seconds_ago
    FROM oo_ml.upkeep
    WHERE task = ANY (CAST(:tasks AS text[]))
    HAVING count(ran_at) = cardinality(CAST(:tasks AS text[]))
""")

# The index on decided_at serves both queries, see decision_tables.py.
_FIRST_DECISION = text("SELECT min(decided_at) FROM oo_ml.feature_history")

_OVERDUE = text("""
    SELECT user_id, decision_id, decided_at
    FROM oo_ml.feature_history
    WHERE decided_at >= :decided_at AND decided_at < :until AND (decided_at, decision_id) > (:decided_at, :decision_id)
        AND reward IS NULL AND reward_kind IS NULL
    ORDER BY decided_at, decision_id
    LIMIT :limit
""")

_HISTORY_FROM = text("SELECT done_until FROM oo_ml.upkeep WHERE task = 'retention'")

_IS_PAST = text("SELECT CAST(:moment AS timestamptz) <= now()")

# A restored database may lack the row.
_RAISE_HISTORY_FROM = text("""
    INSERT INTO oo_ml.upkeep AS u (task, done_until)
    VALUES ('retention', :moment)
    ON CONFLICT (task) DO UPDATE SET done_until = greatest(u.done_until, EXCLUDED.done_until)
""")

_REWIND_DEFAULT_REWARDS = text("""
    UPDATE oo_ml.upkeep AS u
    SET done_until = h.decided_at
    FROM (
        SELECT min(decided_at) AS decided_at
        FROM oo_ml.feature_history
        WHERE user_id = :user_id AND reward IS NULL AND reward_kind IS NULL
    ) AS h
    WHERE u.task = 'default-rewards' AND u.done_until > h.decided_at
""")


def claim(connection: Writing, task: str) -> Claim | None:
    """Lock a task's row for this transaction without waiting; call it before locking any other row.

    Return None if another transaction holds the row. Insert the row if a restored database lacks it.
    """
    rows = _CLAIM.run(connection, {"task": task})
    if rows:
        [(done_until,)] = rows
        return Claim(done_until)
    # Look before the insert, because INSERT would wait for a transaction that has updated the row.
    exists = connection.scalar(_EXISTS, {"task": task})
    return Claim(None) if not exists and create(connection, task) else None


def exclude(connection: Writing, task: str) -> None:
    """Lock a task until this transaction ends; wait for a running step up to the statement timeout."""
    limit = connection.scalar(_LOCK_TIMEOUT)
    # A step may take longer than the lock timeout, which is meant for the rows of users.
    connection.execute(_SET_LOCK_TIMEOUT, {"limit": "0"})
    connection.execute(_WAIT, {"task": task})
    connection.execute(_SET_LOCK_TIMEOUT, {"limit": limit})


def create(connection: Writing, task: str) -> bool:
    """Insert a task's row if it is missing; return whether it was missing."""
    return connection.execute(_CREATE, {"task": task}).one_or_none() is not None


def save(connection: Writing, task: str, done_until: datetime | None, ran_at: datetime) -> None:
    """Record how far a claimed task has come."""
    connection.execute(_SAVE, {"task": task, "done_until": done_until, "ran_at": ran_at})


def read_last_success(connection: Reading, tasks: Sequence[str]) -> LastSuccess | None:
    """Return the last step of that task of `tasks` which has waited longest; None if one has never run."""
    row = connection.execute(_LAST_SUCCESS, {"tasks": tasks}).one_or_none()
    return None if row is None else LastSuccess(*row)


def find_overdue(connection: Reading, after: Position, until: datetime, limit: int) -> dict[DecisionKey, Position]:
    """Return up to `limit` decisions between a cursor and a time, oldest first, that have no ledger entry."""
    rows = connection.execute(_OVERDUE, {**after._asdict(), "until": until, "limit": limit})
    return {DecisionKey(row.user_id, row.decision_id): Position(row.decided_at, row.decision_id) for row in rows}


def find_first_decision(connection: Reading) -> datetime | None:
    """Return the time of the oldest decision, if any."""
    moment: datetime | None = connection.scalar(_FIRST_DECISION)
    return moment


def read_history_from(connection: Reading) -> datetime | None:
    """Return the time before which retention has removed decisions; None if it has removed none."""
    moment: datetime | None = connection.scalar(_HISTORY_FROM)
    return moment


def raise_history_from(connection: Writing, moment: datetime) -> None:
    """Record that decisions before `moment` may be missing, as after retention; an existing later time stays."""
    connection.execute(_RAISE_HISTORY_FROM, {"moment": moment})


def is_past(connection: Reading, moment: datetime) -> bool:
    """Return whether `moment` lies in the past by the database's clock."""
    return bool(connection.scalar(_IS_PAST, {"moment": moment}))


def rewind_default_rewards(connection: Writing, user_id: str) -> None:
    """Move the task default-rewards back to the user's first decision without a reward, if it is past it."""
    connection.execute(_REWIND_DEFAULT_REWARDS, {"user_id": user_id})
