"""Default rewards on a damaged database: a broken decision is skipped, and a failure of the task is an error."""

import logging

import pytest
from sqlalchemy import Engine, text

from oo_ml.errors import UnexpectedError
from oo_ml.services.upkeep import default_rewards
from oo_ml.services.upkeep.default_rewards import Defaults
from tests.services.upkeep.overdue_decisions import (
    HOUR,
    NOW,
    SECOND,
    WAIT,
    Decider,
    give,
    hold_task,
    read_done_until,
    read_rewards,
)
from tests.sessions import writing
from tests.superuser import tamper

BROKEN = [
    "UPDATE oo_ml.feature_history SET x = '{1,2}' WHERE decision_id = :broken",
    """
    INSERT INTO oo_ml.reward_ledger (user_id, policy, epoch, version, recorded_at, kind, reward, x, tip_id, decision_id)
    SELECT user_id, policy, epoch, 99, now(), 'reward', 0.5, x, tip_id, decision_id
    FROM oo_ml.feature_history
    WHERE decision_id = :broken
    """,
]


@pytest.mark.parametrize("statement", BROKEN, ids=["x", "ledger"])
@pytest.mark.parametrize("limit", [1, 7, default_rewards.LIMIT])
def test_broken_decision(
    database_url: str, db: Engine, decider: Decider, caplog: pytest.LogCaptureFixture, statement: str, limit: int
) -> None:
    """A broken decision is logged without its user; all others, also those of later runs, get their rewards."""
    users = [f"user {number}" for number in range(30)]
    made = decider.decide_many([5 * HOUR - number * SECOND for number in range(30)], users)
    broken = [made[3].decision_id, made[18].decision_id]
    with writing(db) as connection:
        connection.execute(text(statement), [{"broken": decision_id} for decision_id in broken])
    assert give(database_url, limit=limit) == Defaults(28, failed=tuple(broken))
    assert {one.decision_id for one in made if read_rewards(db)[one.decision_id] == (None, None)} == set(broken)
    assert read_done_until(db) == NOW - WAIT - HOUR
    alarms = [record for record in caplog.records if record.message.endswith("is stepped over")]
    assert [record.levelno for record in alarms] == [logging.ERROR] * 2
    assert [str(decision_id) in record.message for decision_id, record in zip(broken, alarms, strict=True)] == [
        True
    ] * 2
    assert "user " not in caplog.text
    later = decider.decide_many([HOUR] * 30, users)
    assert give(database_url, now=NOW + 2 * HOUR, limit=limit) == Defaults(30)
    assert {read_rewards(db)[one.decision_id] for one in later} == {(-0.25, "default")}


def test_repaired_decision(database_url: str, db: Engine, decider: Decider) -> None:
    """After the stored time is cleared, as docs/operations.md says, a repaired decision gets its reward."""
    made = decider.decide(30 * HOUR)
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.feature_history SET x = '{1,2}'"))
    assert give(database_url) == Defaults(0, failed=(made.decision_id,))
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.feature_history SET x = '{1,2,3,4,5}'"))
    assert give(database_url) == Defaults(0)
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.upkeep SET done_until = NULL WHERE task = 'default-rewards'"))
    assert give(database_url) == Defaults(1)
    assert read_rewards(db) == {made.decision_id: (-0.25, "default")}


def test_look_that_fails(database_url: str, db: Engine, decider: Decider) -> None:
    """A look that fails is an error: nothing is skipped unseen, and nothing is tried for ever."""
    decider.decide(3 * HOUR)
    tamper(db, "ALTER TABLE oo_ml.upkeep ADD CHECK (done_until IS NULL)")
    with pytest.raises(UnexpectedError):
        give(database_url)


def test_missing_row_of_the_task(database_url: str, db: Engine, decider: Decider) -> None:
    """If the task's row is missing, as after a restore of other rows, it is created."""
    made = decider.decide(3 * HOUR)
    with writing(db) as connection:
        connection.execute(text("DELETE FROM oo_ml.upkeep"))
    assert give(database_url) == Defaults(1)
    assert read_rewards(db) == {made.decision_id: (-0.25, "default")}
    assert read_done_until(db) == NOW - WAIT - HOUR
    with hold_task(db):
        assert give(database_url) == Defaults(0, is_busy=True)
