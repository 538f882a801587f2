"""Default rewards: each decision without a reaction in time gets one, and no other decision."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, text

from oo_ml.domain.features import Moment, Task
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import DatabaseTimeoutError, UnexpectedError
from oo_ml.services.database import single_worker
from oo_ml.services.decisions.decide import DecideCommand, Parameters, decide
from oo_ml.services.decisions.learn import CorrectCommand, DecisionRewardCommand, correct, learn
from oo_ml.services.decisions.reset import reset
from oo_ml.services.upkeep import default_rewards
from oo_ml.services.upkeep.default_rewards import Defaults, GiveCommand, Look, LookCommand, give_default_rewards, look
from oo_ml.storage.decision_types import DecisionKey
from oo_ml.storage.schema import partitions
from tests.candidates import Candidate
from tests.conftest import make_settings
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.migrations.rows import uuid7
from tests.sessions import writing
from tests.superuser import superuser, tamper

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
NOW = datetime.now(UTC)
WAIT = 2 * HOUR


@dataclass(frozen=True, slots=True)
class Made:
    """A decision that was made."""

    user_id: str
    decision_id: UUID


class Decider:
    """Source of decisions, each with its own id."""

    def __init__(self, db: Engine) -> None:
        self._db = db
        self._count = 0

    def decide(self, ago: timedelta, user_id: str = "ada", policy: str = LINUCB) -> Made:
        """Make one decision."""
        [made] = self.decide_many([ago], [user_id], policy)
        return made

    def decide_many(self, ago: Sequence[timedelta], user_ids: Sequence[str], policy: str = LINUCB) -> list[Made]:
        """Make decisions, in one transaction."""
        commands = [self._command(NOW - before, user, policy) for before, user in zip(ago, user_ids, strict=True)]
        with writing(self._db) as connection:
            decide(connection, commands, parameters=Parameters(alpha=1.0, epsilon=0.0))
        return [Made(command.user_id, command.decision_id) for command in commands]

    def _command(self, moment: datetime, user_id: str, policy: str) -> DecideCommand:
        self._count += 1
        candidates = [Candidate("t1", "todoist", Task(is_overdue=False, task_age_days=0, priority=4))]
        return DecideCommand(user_id, policy, uuid7(moment, self._count), moment, Moment(9, 2), candidates)


@pytest.fixture
def decider(db: Engine) -> Decider:
    """Return a source of decisions."""
    return Decider(db)


def react(db: Engine, made: Made, reward: float = 1.0) -> None:
    """React to a decision, as a user does."""
    with writing(db) as connection:
        learn(connection, [DecisionRewardCommand(made.user_id, made.decision_id, "t1", reward, NOW)])


def give(
    url: str,
    *,
    now: datetime = NOW,
    wait: timedelta = WAIT,
    reward: float = -0.25,
    limit: int = default_rewards.LIMIT,
    **limits: float,
) -> Defaults:
    """Give default rewards, as upkeep does."""
    settings = make_settings(reward_wait=wait.total_seconds(), default_reward=reward, **limits)
    with single_worker(settings, url) as worker:
        return asyncio.run(give_default_rewards(worker, settings, now, limit=limit))


def read_rewards(db: Engine) -> dict[UUID, tuple[float | None, str | None]]:
    """Return the reward of each decision, and its kind."""
    with writing(db) as connection:
        rows = connection.execute(text("SELECT decision_id, reward, reward_kind FROM oo_ml.feature_history"))
        return {row.decision_id: (row.reward, row.reward_kind) for row in rows}


def read_done_until(db: Engine) -> Any:  # noqa: ANN401 - a time, or none
    """Return the stored time of the task."""
    return scalar(db, "SELECT done_until FROM oo_ml.upkeep WHERE task = 'default-rewards'")


@contextmanager
def hold_task(db: Engine) -> Iterator[None]:
    """Hold the row of the task, as another process does."""
    with writing(db) as connection:
        connection.execute(text("SELECT FROM oo_ml.upkeep WHERE task = 'default-rewards' FOR UPDATE"))
        yield


def test_default_reward_of_overdue_decisions(database_url: str, db: Engine, decider: Decider) -> None:
    """Only open decisions past the wait get it: none with a reward or a retraction, and no younger one."""
    open_, rewarded, retracted, zero = (decider.decide(ago) for ago in (3 * HOUR, 4 * HOUR, 5 * HOUR, 6 * HOUR))
    greedy = decider.decide(WAIT + SECOND, "ben", EPSILON_GREEDY)
    young = decider.decide(WAIT, "ben")
    react(db, rewarded)
    react(db, retracted)
    react(db, zero, 0.0)
    with writing(db) as connection:
        correct(connection, [CorrectCommand("ada", retracted.decision_id, None, NOW)])
    assert give(database_url) == Defaults(2)
    assert read_rewards(db) == {
        open_.decision_id: (-0.25, "default"),
        rewarded.decision_id: (1.0, None),
        retracted.decision_id: (None, "retract"),
        zero.decision_id: (0.0, None),
        greedy.decision_id: (-0.25, "default"),
        young.decision_id: (None, None),
    }
    counts = "SELECT array_agg(concat_ws(' ', user_id, policy, reward_count, version)) FROM oo_ml.policy_state"
    assert sorted(scalar(db, counts)) == ["ada linucb-v1 3 5", "ben egreedy-v1 1 1", "ben linucb-v1 0 0"]  # type: ignore[call-overload]
    assert give(database_url) == Defaults(0)


def test_no_wait_configured(database_url: str, db: Engine, decider: Decider) -> None:
    """Without OO_ML_REWARD_WAIT no default reward is given."""
    made = decider.decide(100 * HOUR)
    settings = make_settings()
    with single_worker(settings, database_url) as worker:
        assert asyncio.run(give_default_rewards(worker, settings, NOW)) == Defaults()
    assert read_rewards(db) == {made.decision_id: (None, None)}


def test_reaction_after_default_reward(database_url: str, db: Engine, decider: Decider) -> None:
    """A later reaction counts instead of the default, and the ledger has both entries."""
    made = decider.decide(3 * HOUR)
    give(database_url)
    react(db, made, 0.5)
    assert read_rewards(db) == {made.decision_id: (0.5, "amend")}
    assert scalar(db, "SELECT array_agg(concat_ws(' ', kind, reward) ORDER BY version) FROM oo_ml.reward_ledger") == [
        "default -0.25",
        "amend 0.5",
    ]
    assert scalar(db, "SELECT (reward_count, cumulative_reward)::text FROM oo_ml.policy_state") == "(1,0.5)"
    assert give(database_url) == Defaults(0)
    assert read_rewards(db) == {made.decision_id: (0.5, "amend")}


def test_backlog(database_url: str, db: Engine, decider: Decider) -> None:
    """Each decision gets its reward once: with hours between decisions, many in one hour, or many at one time."""
    decider.decide_many([timedelta(hours=hours) for hours in (3, 30, 72)], ["ada", "ben", "cy"])
    decider.decide_many([5 * HOUR] * 35, [f"user {number % 7}" for number in range(35)])
    decider.decide_many([6 * HOUR + number * SECOND for number in range(20)], ["ada"] * 20)
    assert give(database_url, limit=10) == Defaults(58)
    assert set(read_rewards(db).values()) == {(-0.25, "default")}
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger WHERE kind = 'default'") == 58
    assert read_done_until(db) == NOW - WAIT - HOUR
    assert give(database_url, limit=10) == Defaults(0)


def test_decision_that_commits_late(database_url: str, db: Engine, decider: Decider) -> None:
    """A decision that commits after the look at its time is found: each run looks at the last hour again."""
    decider.decide(30 * HOUR)
    assert give(database_url) == Defaults(1)
    late = decider.decide(WAIT + HOUR - SECOND, "ben")
    assert give(database_url, now=NOW + SECOND) == Defaults(1)
    assert read_rewards(db)[late.decision_id] == (-0.25, "default")


def test_change_of_the_wait(database_url: str, db: Engine, decider: Decider) -> None:
    """A longer wait takes nothing back; a shorter one gives the rewards that are due at once."""
    old, young = decider.decide(30 * HOUR), decider.decide(HOUR + SECOND)
    assert give(database_url) == Defaults(1)
    before = read_done_until(db)
    assert give(database_url, wait=20 * HOUR) == Defaults(0)
    assert read_done_until(db) == before
    assert give(database_url, wait=HOUR) == Defaults(1)
    assert read_rewards(db) == {old.decision_id: (-0.25, "default"), young.decision_id: (-0.25, "default")}


def test_no_decisions(database_url: str, db: Engine) -> None:
    """Without decisions, and without partitions, a run does nothing and is recorded."""
    with writing(db) as connection:
        months = partitions.layout(connection).months
    for month in months:
        tamper(db, f"DROP TABLE oo_ml.feature_history_{month:%Y_%m}")
    assert give(database_url) == Defaults(0)
    assert scalar(db, "SELECT ran_at FROM oo_ml.upkeep WHERE task = 'default-rewards'") == NOW


def test_one_process_runs_the_task(database_url: str, db: Engine, decider: Decider) -> None:
    """A process that finds the task running leaves it to the other process, without waiting."""
    made = decider.decide(3 * HOUR)
    with hold_task(db):
        assert give(database_url) == Defaults(0, is_busy=True)
    assert read_rewards(db) == {made.decision_id: (None, None)}
    assert give(database_url) == Defaults(1)


def test_reaction_between_look_and_lock(database_url: str, db: Engine, decider: Decider) -> None:
    """A reaction between the look and the lock counts, and the default does not."""
    made, other = decider.decide(3 * HOUR), decider.decide(3 * HOUR, "ben")
    with ThreadPoolExecutor(1) as elsewhere:
        with holding_state(db, "ada", LINUCB) as session:
            upkeep = elsewhere.submit(give, database_url)
            wait_until_blocked(db, 1)
            learn(session, [DecisionRewardCommand("ada", made.decision_id, "t1", 1.0, NOW)])
            session.commit()
        assert upkeep.result() == Defaults(1)
    assert read_rewards(db) == {made.decision_id: (1.0, None), other.decision_id: (-0.25, "default")}


def test_default_reward_after_reset(database_url: str, db: Engine, decider: Decider) -> None:
    """The ledger entry belongs to the decision's epoch, and the new epoch stays empty."""
    made = decider.decide(3 * HOUR)
    with writing(db) as connection:
        reset(connection, ["ada"])
    assert give(database_url) == Defaults(1)
    assert read_rewards(db) == {made.decision_id: (-0.25, "default")}
    assert scalar(db, "SELECT array_agg((epoch, version, kind)::text) FROM oo_ml.reward_ledger") == ["(0,1,default)"]
    assert scalar(db, "SELECT (epoch, version, reward_count)::text FROM oo_ml.policy_state") == "(1,0,0)"


def test_decision_without_state(database_url: str, db: Engine, decider: Decider) -> None:
    """A decision whose state was deleted is skipped; the others get their rewards, and the run ends."""
    lost = decider.decide_many([3 * HOUR] * 7, ["ada"] * 7)
    decider.decide(3 * HOUR, "ben")
    with writing(db) as connection:
        connection.execute(text("DELETE FROM oo_ml.policy_state WHERE user_id = 'ada'"))
    assert give(database_url, limit=3) == Defaults(1)
    assert {read_rewards(db)[made.decision_id] for made in lost} == {(None, None)}


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
