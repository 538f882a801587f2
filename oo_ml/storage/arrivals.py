"""What upkeep has to know of a person who comes from another database, whom none of its tasks has met here."""

from datetime import datetime

from sqlalchemy import Connection, text

_IS_PAST = text("SELECT CAST(:moment AS timestamptz) <= now()")

# The row may be missing from a database that was restored.
_RETAINED = text("""
    INSERT INTO oo_ml.upkeep AS u (task, done_until)
    VALUES ('retention', :moment)
    ON CONFLICT (task) DO UPDATE SET done_until = greatest(u.done_until, EXCLUDED.done_until)
""")

# Open as default-rewards sees it, see upkeep.py.
_WAITING = text("""
    UPDATE oo_ml.upkeep AS u
    SET done_until = h.decided_at
    FROM (
        SELECT min(decided_at) AS decided_at
        FROM oo_ml.feature_history
        WHERE user_id = :user_id AND reward IS NULL AND reward_kind IS NULL
    ) AS h
    WHERE u.task = 'default-rewards' AND u.done_until > h.decided_at
""")


def is_past(connection: Connection, moment: datetime) -> bool:
    """Tell whether a moment has been, by the database's clock."""
    return bool(connection.scalar(_IS_PAST, {"moment": moment}))


def retained(connection: Connection, moment: datetime) -> None:
    """Write down that decisions before a moment may be missing from the history, as if retention had been here."""
    connection.execute(_RETAINED, {"moment": moment})


def waiting(connection: Connection, user_id: str) -> None:
    """Let default rewards go back to the first of the person's decisions that nothing has been said of to this day."""
    connection.execute(_WAITING, {"user_id": user_id})
