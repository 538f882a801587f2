"""The transactions that give default rewards: one for each user, and one process at a time."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, event, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import DatabaseTimeoutError
from oo_ml.services.upkeep import default_rewards
from oo_ml.services.upkeep.default_rewards import Defaults, GiveCommand, Look, LookCommand, look
from oo_ml.storage.decision_types import DecisionKey
from tests.gates import holding_state, scalar, wait_until_blocked
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
from tests.superuser import superuser


def test_one_process_runs_the_task(database_url: str, db: Engine, decider: Decider) -> None:
    """A process that finds the task running leaves it to the other process, without waiting."""
    made = decider.decide(3 * HOUR)
    with hold_task(db):
        assert give(database_url) == Defaults(0, is_busy=True)
    assert read_rewards(db) == {made.decision_id: (None, None)}
    assert give(database_url) == Defaults(1)


def test_statement_counts(db: Engine, decider: Decider) -> None:
    """A look takes three statements, and a user's rewards four, however many decisions there are."""
    made = decider.decide_many([3 * HOUR] * 40, ["ada"] * 40)
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.upkeep SET done_until = :then"), {"then": NOW - WAIT - HOUR})
    statements: list[str] = []
    event.listen(db, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with writing(db) as connection:
        [found] = look(connection, [LookCommand(NOW, WAIT)])
    assert found is not None
    assert len(found.overdue) == 40
    assert len(statements) == 3
    statements.clear()
    with writing(db) as connection:
        [given] = default_rewards.give(connection, [GiveCommand(list(found.overdue), 0.0, NOW)])
    assert given == [DecisionKey(one.user_id, one.decision_id) for one in made]
    assert len(statements) == 4
    statements.clear()
    with writing(db) as connection:
        assert look(connection, [LookCommand(NOW, WAIT)]) == [Look({}, None, NOW - WAIT - HOUR)]
    assert len(statements) == 3


def count_writers(db: Engine, table: str) -> list[tuple[str, int]]:
    """Return, for each user and for "all", the number of transactions that wrote the rows."""
    count = f"SELECT coalesce(user_id, 'all'), count(DISTINCT xmin::text) FROM oo_ml.{table} GROUP BY CUBE (user_id)"  # noqa: S608
    with writing(db) as connection:
        rows = connection.execute(text(count))
        return sorted((user_id, transactions) for user_id, transactions in rows)


def test_transaction_per_user(database_url: str, db: Engine, decider: Decider) -> None:
    """A user's default rewards of a look are one transaction, and no two users share one."""
    users = [f"user {number}" for number in range(5)]
    decider.decide_many([3 * HOUR + number * SECOND for number in range(20)], users * 4)
    decider.decide_many([3 * HOUR] * 5, users, EPSILON_GREEDY)
    assert give(database_url) == Defaults(25)
    for table in ("reward_ledger", "policy_state", "feature_history"):
        assert count_writers(db, table) == [("all", 5), *((user, 1) for user in users)]


def test_run_that_stops_between_users(database_url: str, db: Engine, decider: Decider) -> None:
    """Users before the stop have their rewards; the stored time passes no other user, and the next run gives theirs."""
    made = decider.decide_many([30 * HOUR - number * SECOND for number in range(9)], ["ada", "ben", "cy"] * 3)
    with holding_state(db, "ben", LINUCB), pytest.raises(DatabaseTimeoutError):
        give(database_url, lock_timeout=0.05)
    given = {one.decision_id for one in made if read_rewards(db)[one.decision_id] != (None, None)}
    assert given == {one.decision_id for one in made if one.user_id == "ada"}
    assert read_done_until(db) == NOW - 30 * HOUR
    assert give(database_url) == Defaults(6)
    assert set(read_rewards(db).values()) == {(-0.25, "default")}
    assert scalar(db, "SELECT array_agg(DISTINCT reward_count) FROM oo_ml.policy_state") == [3]
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 9


def test_task_is_held_between_users(database_url: str, db: Engine, decider: Decider) -> None:
    """Another process finds the task running also while the first one waits for a user's row."""
    decider.decide_many([3 * HOUR] * 3, ["ada", "ben", "cy"])
    with ThreadPoolExecutor(1) as elsewhere:
        with holding_state(db, "ben", LINUCB):
            first = elsewhere.submit(give, database_url)
            wait_until_blocked(db, 1)
            assert give(database_url) == Defaults(0, is_busy=True)
        assert first.result() == Defaults(3)


def test_decision_added_behind_a_look(database_url: str, db: Engine, decider: Decider) -> None:
    """A decision that a replay adds behind a look gets its reward in the same run."""
    decider.decide_many([30 * HOUR, 29 * HOUR], ["ada", "ben"])
    with ThreadPoolExecutor(1) as elsewhere:
        with holding_state(db, "ben", LINUCB):
            run = elsewhere.submit(give, database_url)
            wait_until_blocked(db, 1)
            late = decider.decide(29.5 * HOUR, "cy")
        assert run.result() == Defaults(3)
    assert read_rewards(db)[late.decision_id] == (-0.25, "default")


def test_stored_time_set_back_during_a_run(database_url: str, db: Engine, decider: Decider) -> None:
    """If a replay sets the stored time back, the run goes back too."""
    with superuser(db) as connection:
        connection.execute(text("UPDATE oo_ml.upkeep SET done_until = :then"), {"then": NOW - 10 * HOUR})
        connection.execute(
            text("""
                CREATE FUNCTION set_back() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    UPDATE oo_ml.upkeep SET done_until = done_until - interval '30 hours'
                    WHERE task = 'default-rewards';
                    RETURN NULL;
                END $$
            """)
        )
        connection.execute(
            text("""
                CREATE TRIGGER set_back AFTER INSERT ON oo_ml.reward_ledger
                FOR EACH ROW WHEN (NEW.user_id = 'ada') EXECUTE FUNCTION set_back()
            """)
        )
    old = decider.decide(35 * HOUR, "ben")
    decider.decide(5 * HOUR, "ada")
    assert give(database_url) == Defaults(2)
    assert read_rewards(db)[old.decision_id] == (-0.25, "default")
