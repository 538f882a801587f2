"""Warm start: rewards of other policies' decisions count once, and the state stays the fold of the ledger."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import Engine, Row, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB, Policy
from oo_ml.execution import retry
from oo_ml.services.audit.verify import verify
from oo_ml.services.database import single_connection
from oo_ml.services.decisions.reset import reset
from oo_ml.services.users.erase import erase
from oo_ml.services.users.stats import Receipt, read_receipts
from oo_ml.services.users.warm import LIMIT, Source, WarmCommand, Warmed, walk_all_rewards, warm
from oo_ml.storage.decision_types import DecisionKey
from oo_ml.storage.reports import Filters, Report, read_report
from oo_ml.storage.user_ranges import ALL_USERS
from tests.conftest import make_settings
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.policies import builtin
from tests.pooled_users import build_parameters
from tests.rows import assert_folded, everything
from tests.services.policies.readers import Readers, publish_policy
from tests.services.sample_users import detach_the_past, export_user, replay_bytes
from tests.services.scenario import create_ada_and_ben
from tests.services.upkeep.daily_sums.counting import NOW, count_all
from tests.services.upkeep.daily_sums.from_scratch import assert_right
from tests.sessions import open_session, writing
from tests.simulated_users import SimulatedUsers

POOLED: Final = "pooled-v1"
SOURCES: Final = (LINUCB, EPSILON_GREEDY)

# The rewarded decisions of the current epochs, by user and position.
_REWARDED: Final = """
    SELECT h.* FROM oo_ml.feature_history AS h
    JOIN oo_ml.policy_state AS s USING (user_id, policy, epoch)
    WHERE h.reward IS NOT NULL AND h.policy = ANY (:policies)
    ORDER BY h.user_id, h.position
"""
_WARM: Final = "SELECT * FROM oo_ml.reward_ledger WHERE kind = 'warm' ORDER BY user_id, policy, epoch, version"


def read(db: Engine, statement: str, **parameters: object) -> Sequence[Row[Any]]:
    """Return the rows of a query."""
    with writing(db) as connection:
        return connection.execute(text(statement), parameters).all()


def rewarded(db: Engine, policies: Iterable[str] = SOURCES) -> Sequence[Row[Any]]:
    """Return the rewarded decisions of the current epochs by these policies."""
    return read(db, _REWARDED, policies=list(policies))


def source(policy: Policy | None = None, names: Sequence[str] = SOURCES) -> Source:
    """Return a policy to warm, by default pooled-v1, with its sources."""
    return Source(policy or builtin(POOLED), names)


def warm_all(db: Engine, of: Source | None = None, *, limit: int = LIMIT, dry_run: bool = False) -> Warmed:
    """Warm all users."""
    walk = walk_all_rewards(db, make_settings(), of or source(), dry_run=dry_run, limit=limit)
    return sum(walk.parts, Warmed())


def warm_ada(db: Engine) -> None:
    """Warm ada alone."""
    retry.run(db, partial(warm, source=source()), [WarmCommand("ada")], time.monotonic() + 20)


def assert_sound(db: Engine) -> None:
    """Assert that each state is the fold of its ledger, and that `verify` agrees."""
    assert_folded(db)
    with writing(db) as connection:
        assert verify(connection, [ALL_USERS])[0].difference is None


def learned_from(rows: Iterable[Row[Any]]) -> list[tuple[str, object, float]]:
    """Return user, decision and reward of decisions, or of warm entries."""
    return [(row.user_id, row.decision_id or row.origin_decision_id, row.reward) for row in rows]


@pytest.mark.parametrize("limit", [LIMIT, 2])
@pytest.mark.parametrize("seed", range(2))
def test_entries(db: Engine, seed: int, limit: int) -> None:
    """Each rewarded decision of the current epochs is folded once, with the policy's features, weight and order.

    The size of the transactions makes no difference. A dry run counts the same and writes nothing, and a second run
    finds everything there.
    """
    users = SimulatedUsers(db, seed)
    users.act(150)
    decisions, before = rewarded(db), everything(db)
    assert len({one.policy for one in decisions}) == len(SOURCES)
    tried = warm_all(db, limit=limit, dry_run=True)
    assert everything(db) == before
    done = warm_all(db, limit=limit)
    assert done == tried
    assert (done.users, done.rewards, done.left_out, done.already_there) == (
        len({one.user_id for one in decisions}),
        len(decisions),
        0,
        0,
    )
    entries, policy = read(db, _WARM), builtin(POOLED)
    assert learned_from(entries) == learned_from(decisions)
    for entry, one in zip(entries, decisions, strict=True):
        assert (entry.policy, entry.tip_id, entry.weight) == (POOLED, one.tip_id, policy.weigh(one.decided_at))
        assert entry.x.tobytes() == policy.features.encode([one.context], [one.features], [1]).X[0].tobytes()
    assert_sound(db)
    warm_again = warm_all(db, limit=limit)
    assert (warm_again.users, warm_again.rewards, warm_again.already_there) == (0, 0, len(decisions))
    assert learned_from(read(db, _WARM)) == learned_from(decisions)


def test_later_rewards(db: Engine) -> None:
    """A later run adds the rewards that came since. A reward that changed since then stays as it was."""
    users = SimulatedUsers(db, 1)
    first, second, third = (users.decide() for _ in range(3))
    users.react(first, 0.5)
    users.assume(second, 0.0)
    assert warm_all(db).rewards == 2
    users.correct(first, -1.0)
    users.correct(second, None)
    users.react(third, 1.0)
    done = warm_all(db)
    assert (done.rewards, done.already_there) == (1, 1)
    assert [(row.origin_decision_id, row.reward) for row in read(db, _WARM)] == [
        (first, 0.5),
        (second, 0.0),
        (third, 1.0),
    ]
    assert_sound(db)


def test_named_sources(db: Engine) -> None:
    """Only decisions of the sources count; the states of other policies stay as they are."""
    users = SimulatedUsers(db, 1)
    for policy in (LINUCB, EPSILON_GREEDY):
        users.react(users.decide("ada", policy), 0.5)
    before = read(db, "SELECT * FROM oo_ml.policy_state ORDER BY policy")
    assert warm_all(db, source(names=[EPSILON_GREEDY])).rewards == 1
    assert learned_from(read(db, _WARM)) == learned_from(rewarded(db, [EPSILON_GREEDY]))
    after = read(db, "SELECT * FROM oo_ml.policy_state WHERE policy <> :policy ORDER BY policy", policy=POOLED)
    assert [(row.policy, row.version, row.last_updated) for row in after] == [
        (row.policy, row.version, row.last_updated) for row in before
    ]


@pytest.mark.parametrize("limit", [LIMIT, 1])
def test_fields_that_cannot_be_read(db: Engine, limit: int) -> None:
    """A decision whose fields the policy can't read is left out and counted; without others the user gets no state."""
    readers = Readers(db, publish_policy(db, "news-v1"))
    users = SimulatedUsers(db, 1)
    for user_id in ("ada", "ben"):
        for _ in range(2):
            users.react(users.decide(user_id), 0.5)
    readers.react(readers.decide("ada"), 1.0)
    users.react(users.decide("ada"), 0.5)
    target = publish_policy(db, "news-v2")
    done = warm_all(db, source(target, [LINUCB, "news-v1"]), limit=limit)
    assert (done.users, done.rewards, done.left_out) == (1, 1, 5)
    [entry] = read(db, _WARM)
    assert (entry.user_id, entry.policy, entry.reward, entry.weight) == ("ada", "news-v2", 1.0, None)
    assert scalar(db, "SELECT array_agg(user_id) FROM oo_ml.policy_state WHERE policy = 'news-v2'") == ["ada"]
    again = warm_all(db, source(target, [LINUCB, "news-v1"]), limit=limit)
    assert (again.rewards, again.left_out, again.already_there) == (0, 5, 1)
    assert_sound(db)


def test_detached_months(db: Engine) -> None:
    """Decisions of months that retention has detached are not folded; entries about them stay."""
    create_ada_and_ben(db)
    assert warm_all(db, source(names=[EPSILON_GREEDY])).rewards == 1
    detach_the_past(db)
    done = warm_all(db)
    assert (done.users, done.rewards, done.left_out, done.already_there) == (0, 0, 0, 0)
    assert len(read(db, _WARM)) == 1


def test_reset(db: Engine) -> None:
    """After a reset nothing from before it is folded again, and nothing of it counts; what comes later does."""
    users = SimulatedUsers(db, 1)
    late = users.decide()
    users.react(users.decide(), 0.5)
    warm_all(db)
    users.reset("ada")
    users.react(late, 1.0)
    done = warm_all(db)
    assert (done.rewards, done.already_there) == (0, 0)
    new = users.decide()
    users.react(new, 0.25)
    assert warm_all(db).rewards == 1
    assert [(row.epoch, row.version, row.reward) for row in read(db, _WARM)] == [(0, 1, 0.5), (1, 1, 0.25)]
    assert scalar(db, "SELECT cumulative_reward FROM oo_ml.policy_state WHERE policy = 'pooled-v1'") == 0.25
    assert_sound(db)


def test_reset_meanwhile(db: Engine) -> None:
    """A warm start that meets a reset waits for it, and folds nothing from before."""
    users = SimulatedUsers(db, 1)
    users.react(users.decide(), 0.5)
    with ThreadPoolExecutor() as others:
        with writing(db) as connection:
            reset(connection, ["ada"])
            warming = others.submit(warm_ada, db)
            wait_until_blocked(db, 1)
        warming.result()
    assert read(db, _WARM) == []
    states = read(db, "SELECT policy, epoch FROM oo_ml.policy_state")
    assert [(row.policy, row.epoch) for row in states] == [(LINUCB, 1)]


def test_erasure_meanwhile(db: Engine) -> None:
    """A warm start that meets an erasure waits for it, and leaves no row of the user."""
    users = SimulatedUsers(db, 1)
    users.react(users.decide(), 0.5)
    with ThreadPoolExecutor() as others:
        with writing(db) as connection:
            erase(connection, ["ada"])
            warming = others.submit(warm_ada, db)
            wait_until_blocked(db, 1)
        warming.result()
    assert read(db, "SELECT user_id FROM oo_ml.policy_state") == []
    assert read(db, _WARM) == []


def test_two_at_once(db: Engine) -> None:
    """Two warm starts of a user at once: the second one waits for the first, and finds its entries."""
    users = SimulatedUsers(db, 1)
    users.react(users.decide(), 0.5)
    with ThreadPoolExecutor() as others, open_session(db) as first:
        warm(first, [WarmCommand("ada")], source=source())
        second = others.submit(warm_ada, db)
        wait_until_blocked(db, 1)
        first.commit()
        second.result()
    assert learned_from(read(db, _WARM)) == learned_from(rewarded(db))
    assert_sound(db)


def test_locked_user(db: Engine, database_url: str) -> None:
    """A user who is locked for longer than OO_ML_LOCK_TIMEOUT holds up no other user, and is warm in the end."""
    users = SimulatedUsers(db, 1)
    for user_id in ("ada", "ben"):
        for _ in range(3):
            users.react(users.decide(user_id), 0.5)
    done = Warmed()
    settings = make_settings(lock_timeout=0.1)
    with single_connection(settings, database_url, long=True) as engine:
        walk = walk_all_rewards(engine, settings, source(), limit=2)
        with holding_state(db, "ada", LINUCB):
            while not done.states:
                done += next(walk.parts)
        assert (done.users, done.rewards) == (1, 3)
        done = sum(walk.parts, done)
    assert (done.users, done.rewards, done.already_there) == (2, 6, 0)
    assert len(read(db, _WARM)) == 6
    assert_sound(db)


def test_calls_meanwhile(db: Engine) -> None:
    """While users decide and react by both policies, warm starts miss no reward and fold each one once."""
    lives = [SimulatedUsers(db, seed, now=NOW - timedelta(hours=seed)) for seed in range(4)]
    names = [f"user {number}" for number in range(6)]

    def live(users: SimulatedUsers) -> None:
        for number in range(40):
            user_id = users.random.choice(names)
            policy = users.random.choice((LINUCB, POOLED))
            users.react(users.decide(user_id, policy, parameters=build_parameters()), 0.25)
            if number % 10 == 9:
                users.correct(list(users.decisions)[-1], 0.5)

    with ThreadPoolExecutor() as others:
        living = [others.submit(live, users) for users in lives]
        while not all(one.done() for one in living):
            warm_all(db, limit=3)
        for one in living:
            one.result()
    warm_all(db)
    entries = read(db, _WARM)
    assert sorted(entry.origin_decision_id for entry in entries) == sorted(
        one.decision_id for one in rewarded(db, [LINUCB])
    )
    made = sum(len(users.decisions) for users in lives)
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger WHERE kind = 'reward'") == made
    assert_sound(db)


def test_reports(db: Engine, database_url: str) -> None:
    """Warm entries are no rewards: sums by day, reports and receipts stay the same, counted or not."""
    users = SimulatedUsers(db, 3, now=NOW)
    users.act(120)
    keys = [DecisionKey(command.user_id, name) for name, command in users.decisions.items()]

    def look() -> dict[str, Any]:
        with writing(db) as connection:
            reports: dict[str, Any] = {one: read_report(connection, one, Filters()) for one in Report}
        with writing(db) as connection:
            receipts = [one.rewards for one in read_receipts(connection, keys) if isinstance(one, Receipt)]
        health = [row for row in reports[Report.LOOP_HEALTH] if row["check_name"] != "uncounted"]
        return reports | {Report.LOOP_HEALTH: health, "receipts": receipts}

    before = look()
    assert before[Report.REACTION_RATES]
    assert warm_all(db).rewards > 10
    assert look() == before
    assert_right(db)
    count_all(db, database_url)
    assert look() == before
    assert_right(db, "oo_ml.daily_")


def test_export_and_replay(db: Engine, other_db: Engine) -> None:
    """A warm user is exported and replayed elsewhere, equal to the last bit, and can be erased."""
    users = SimulatedUsers(db, 1)
    users.react(users.decide(), 0.5)
    warm_all(db)
    content = export_user(db, "ada")
    assert not replay_bytes(other_db, content).unchanged
    assert replay_bytes(other_db, content).unchanged
    assert warm_all(other_db).already_there == 1
    assert_sound(other_db)
    with writing(db) as connection:
        erase(connection, ["ada"])
    assert read(db, "SELECT user_id FROM oo_ml.reward_ledger") == []
