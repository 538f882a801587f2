"""policy_values against numpy, and against the true value of drawing at random."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests.analytics.intervals import build_interval, find_group
from tests.policies import DIMENSIONS, Parameters
from tests.services.upkeep.daily_sums.counting import count_all
from tests.sessions import writing
from tests.simulated_users import CERTAIN, SimulatedUsers
from tests.superuser import superuser


def test_policy_values(db: Engine, database_url: str) -> None:
    """Every number equals the one from the decisions, counted by upkeep or not, and after a correction."""
    simulated = SimulatedUsers(db, 31, Parameters(alpha=0.7, epsilon=0.5, exploration=0.5))
    simulated.act(400)
    for _ in range(2):
        assert_right(db)
        count_all(db, database_url)
    simulated.act(60)
    assert_right(db)


def test_policy_without_exploration(db: Engine) -> None:
    """A policy without exploration has its own mean and no estimate; the other policy keeps its estimate."""
    simulated = SimulatedUsers(db, 32)
    for number in range(240):
        policy = (LINUCB, EPSILON_GREEDY)[number % 2]
        ids = ["a", "b", "c"]
        decision = simulated.decide(
            ("ada", "ben", "zoë")[number % 3], policy, ids=ids, parameters=CERTAIN if policy == LINUCB else None
        )
        simulated.react(decision)
    rows = read_values(db)
    linucb, egreedy = rows[LINUCB], rows[EPSILON_GREEDY]
    assert linucb["mean_reward"] is not None
    estimates = [name for name in linucb if name.startswith(("random_", "gain", "effective"))]
    assert [linucb[name] for name in estimates] == [None] * 7
    assert (linucb["estimator"], egreedy["estimator"]) == (None, "dr")
    assert (linucb["unsupported"], linucb["unknown_because"]) == (120, "nothing was drawn at random")
    assert None not in [egreedy[name] for name in estimates]
    assert (egreedy["unsupported"], egreedy["unknown_because"]) == (0, None)


def test_truth(db: Engine) -> None:
    """The interval contains the mean worth of the candidates, which is what drawing at random earns."""
    simulated = SimulatedUsers(db, 33)
    for number in range(400):
        simulated.react(simulated.decide(f"user {number % 40}", LINUCB, ids=["a", "b", "c"]))
    truth = np.mean([np.mean(worths) for worths in simulated.worths])
    found = read_values(db)[LINUCB]
    assert found["random_mean_reward_low"] < truth < found["random_mean_reward_high"]
    assert found["gain"] == pytest.approx(found["mean_reward"] - found["random_mean_reward"])


def test_decisions_without_model(db: Engine, database_url: str) -> None:
    """If some decision has no expected rewards, the estimate is by the weights, counted by upkeep or not."""
    simulated = SimulatedUsers(db, 34, Parameters(alpha=0.7, epsilon=0.5, exploration=0.5))
    simulated.act(300)
    statement = """
        UPDATE oo_ml.feature_history SET exploit = NULL, explore = NULL, propensities = NULL, exploration = NULL
        WHERE decision_id = (
            SELECT decision_id FROM oo_ml.feature_history WHERE policy = 'linucb-v1' AND reward IS NOT NULL LIMIT 1
        )
    """
    with superuser(db) as connection:
        connection.execute(text(statement))
    for _ in range(2):
        assert_right(db)
        assert {policy: row["estimator"] for policy, row in read_values(db).items()} == {
            LINUCB: "snips",
            EPSILON_GREEDY: "dr",
        }
        count_all(db, database_url)


def test_coverage_with_different_users(db: Engine) -> None:
    """If users differ, 95 % intervals of the reports cover the truth in at least 92 of 100 worlds; from decisions, not.

    120 users have base rates with a standard deviation of 0.2. The day stands for the world. Tips are drawn at random.
    """
    rng = np.random.default_rng(20261128)
    worlds, users = 200, 120
    means, by_decisions = [], 0
    with superuser(db) as connection:
        for world in range(worlds):
            base = np.clip(0.5 + 0.2 * rng.standard_normal(users), 0, 1)
            counts = rng.integers(1, 24, users)
            done = rng.binomial(counts, base)
            columns = {
                "users": [f"user {world} {number}" for number in range(users)],
                "counts": counts.tolist(),
                "done": done.tolist(),
            }
            # The groups of the users of each world, as upkeep would add them up; w is 2.
            connection.execute(text(_ADD_WORLD), {**columns, "world": world})
            means.append(mean := done.sum() / counts.sum())
            by_decisions += abs(mean - 0.5) <= 1.96 * np.sqrt(mean * (1 - mean) / counts.sum())
    with writing(db) as connection:
        rates = connection.execute(text(_READ_RATES), {"worlds": worlds}).all()
        values = connection.execute(text(_READ_VALUES), {"worlds": worlds}).all()
    assert [row.done_rate for row in rates] == pytest.approx(means)
    covered = {
        "done": sum(row.done_low <= 0.5 <= row.done_high for row in rates),
        "mean_reward": sum(row.mean_reward_low <= 0.5 <= row.mean_reward_high for row in values),
        "random_mean_reward": sum(row.random_mean_reward_low <= 0.5 <= row.random_mean_reward_high for row in values),
    }
    assert all(count >= 0.92 * worlds for count in covered.values()), covered
    assert by_decisions < 0.8 * worlds


_ADD_WORLD = """
    INSERT INTO oo_ml.daily_user_groups (
        day, policy, exploring, reaction, user_group, assigned, decisions, rewards, weights, weights_squared,
        weighted_rewards, modelled, random_estimates, choices, unsupported
    )
    SELECT
        date '2026-01-01' + CAST(:world AS integer), 'linucb-v1', true, r.reaction, analytics.user_group(u.user_id),
        false, sum(r.n), sum(r.n * r.reward), sum(2 * r.n), sum(4 * r.n), sum(2 * r.n * r.reward), 0, 0, sum(r.n), 0
    FROM unnest(CAST(:users AS text[]), CAST(:counts AS integer[]), CAST(:done AS integer[]))
        AS u (user_id, decisions, done)
    CROSS JOIN LATERAL (VALUES ('done', u.done, 1), ('snooze', u.decisions - u.done, 0)) AS r (reaction, n, reward)
    GROUP BY r.reaction, analytics.user_group(u.user_id)
"""
# One plan for all worlds: planning a report takes far longer than reading the few rows of a day.
_READ_RATES = """
    SELECT r.* FROM generate_series(1, :worlds) AS world
    CROSS JOIN LATERAL analytics.reaction_rates_between(date '2025-12-31' + world, date '2025-12-31' + world) AS r
    WHERE r.grouped_by = 'all' ORDER BY world
"""
_READ_VALUES = """
    SELECT v.* FROM generate_series(1, :worlds) AS world
    CROSS JOIN LATERAL analytics.policy_values_between(date '2025-12-31' + world, date '2025-12-31' + world) AS v
    ORDER BY world
"""


def assert_right(db: Engine) -> None:
    """Compare the view with numpy."""
    with writing(db) as connection:
        seen = [dict(row) for row in connection.execute(text("SELECT * FROM oo_ml.feature_history")).mappings()]
    found = read_values(db)
    assert found.keys() == DIMENSIONS.keys()
    for policy, row in found.items():
        own = [one for one in seen if one["policy"] == policy]
        assert row["shown"] == len(own)
        assert row["unknown_because"] is None
        expected = compute_naively([one for one in own if one["reward"] is not None])
        for name, number in expected.items():
            is_number = isinstance(number, float)
            assert row[name] == (pytest.approx(number, rel=1e-8, abs=1e-9) if is_number else number), name


def compute_naively(rewarded: list[dict[str, Any]]) -> dict[str, Any]:
    """Compute the numbers of a row with numpy, the margins from the influence of each decision."""
    r = np.array([one["reward"] for one in rewarded])
    w = np.array([1 / (one["propensity"] * (one["prompt_probability"] or 1)) for one in rewarded])
    groups = [find_group(one["user_id"]) for one in rewarded]
    off = (r - r.mean()) / len(r)
    if is_dr := all(one["exploit"] is not None for one in rewarded):
        d = np.array([compute_d(one) for one in rewarded])
        at_random = d.mean()
        random_off = (d - at_random) / len(r)
    else:
        at_random = (w * r).sum() / w.sum()
        random_off = w * (r - at_random) / w.sum()
    return {
        "rewarded": len(r),
        "estimator": "dr" if is_dr else "snips",
        "effective_sample_size": w.sum() ** 2 / (w**2).sum(),
        **build_interval("mean_reward", r.mean(), off, groups),
        **build_interval("random_mean_reward", at_random, random_off, groups),
        **build_interval("gain", r.mean() - at_random, off - random_off, groups),
    }


def compute_d(one: dict[str, Any]) -> float:
    """Return the doubly robust estimate of the reward of a draw at random."""
    is_chosen = np.array([candidate["id"] == one["tip_id"] for candidate in one["candidates"]])
    q, share = np.array(one["exploit"]), is_chosen.mean()
    return float(q.mean() + share / one["propensity"] * (one["reward"] - q[is_chosen].mean()))


def read_values(db: Engine) -> dict[str, dict[str, Any]]:
    """Return the rows of the view by policy."""
    with writing(db) as connection:
        rows = connection.execute(text("SELECT * FROM analytics.policy_values")).mappings()
        return {row["policy"]: dict(row) for row in rows}
