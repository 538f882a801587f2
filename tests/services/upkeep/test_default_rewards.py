"""Default rewards: decisions without a reaction get one after OO_ML_REWARD_WAIT, and a later reaction replaces it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.services.database import single_worker
from oo_ml.services.decisions.learn import CorrectCommand, DecisionRewardCommand, correct, learn
from oo_ml.services.decisions.reset import reset
from oo_ml.services.upkeep.default_rewards import Defaults, give_default_rewards
from oo_ml.storage.schema import partitions
from tests.conftest import make_settings
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.services.upkeep.overdue_decisions import (
    HOUR,
    NOW,
    SECOND,
    WAIT,
    Decider,
    give,
    react,
    read_done_until,
    read_rewards,
)
from tests.sessions import writing
from tests.superuser import tamper


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
        months = partitions.read_layout(connection).months
    for month in months:
        tamper(db, f"DROP TABLE oo_ml.feature_history_{month:%Y_%m}")
    assert give(database_url) == Defaults(0)
    assert scalar(db, "SELECT ran_at FROM oo_ml.upkeep WHERE task = 'default-rewards'") == NOW


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
