"""policy_lift against numpy, and the coverage of its intervals among users who differ."""

from collections.abc import Sequence
from math import erf, sqrt
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from oo_ml.domain.evaluation.student import t95
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.domain.traffic import Traffic
from tests.analytics.intervals import build_interval, compute_error, find_group
from tests.policies import Parameters
from tests.services.upkeep.daily_sums.counting import count_all
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers
from tests.superuser import superuser

UNIFORM: Final = "uniform-v1"
Numbers = NDArray[np.float64]


def test_policy_lift(db: Engine, database_url: str) -> None:
    """Every number equals the one from the decisions of the traffic, counted by upkeep or not, and corrected."""
    simulated = SimulatedUsers(db, 41)
    for number in range(360):
        policy = (LINUCB, EPSILON_GREEDY, UNIFORM)[number % 3]
        exploration = Parameters(alpha=0.7, epsilon=0.2, exploration=1.0 if policy == UNIFORM else 0.3)
        is_assigned = number % 10 != 0
        decision = simulated.decide(
            f"user {number % 45}", policy, parameters=exploration, share=1 / 3 if is_assigned else None
        )
        if number % 4:
            simulated.react(decision)
    for _ in range(2):
        assert_right(db)
        count_all(db, database_url)
    simulated.correct(next(iter(simulated.decisions)), -1.0)
    simulated.correct(list(simulated.decisions)[1], -1.0)
    assert_right(db)


def test_equal_rewards(db: Engine) -> None:
    """Rewards that are all equal say nothing about the error, so no interval has the width 0, and no policy is sure."""
    simulated = SimulatedUsers(db, 43)
    for number in range(120):
        policy = LINUCB if number % 2 else UNIFORM
        exploration = Parameters(alpha=0.7, epsilon=0.2, exploration=1.0 if policy == UNIFORM else 0.3)
        decision = simulated.decide(f"user {number}", policy, parameters=exploration, share=0.5)
        simulated.react(decision, 1.0 if policy == LINUCB else -1.0)
    with writing(db) as connection:
        columns = "mean_reward, mean_reward_low, lift, lift_low, probability_best, unknown_because"
        rows = connection.execute(text(f"SELECT policy, {columns} FROM analytics.policy_lift")).all()  # noqa: S608
    found = {row.policy: tuple(row[1:]) for row in rows}
    assert found[LINUCB] == (1.0, None, None, None, None, "all its rewards are equal")
    assert found[UNIFORM][:5] == (-1.0, None, None, None, None)


def test_traffic_by_day(db: Engine, database_url: str) -> None:
    """The shares of a day are those of its assigned decisions, counted by upkeep or not."""
    simulated = SimulatedUsers(db, 42)
    for number in range(40):
        simulated.decide(f"user {number}", LINUCB if number % 4 else EPSILON_GREEDY, share=0.5 if number % 5 else None)
    expected = [("egreedy-v1", 8, 0.25), ("linucb-v1", 24, 0.75)]
    for _ in range(2):
        with writing(db) as connection:
            rows = connection.execute(text("SELECT * FROM analytics.policy_traffic_by_day ORDER BY policy")).all()
        assert [tuple(row[1:]) for row in rows] == expected
        assert {row.day for row in rows} == {simulated.now.date()}
        count_all(db, database_url)


def test_reasons(db: Engine) -> None:
    """A lift that the decisions do not support is unknown, with its reason."""
    few, many = [f"user {number}" for number in range(2)], [f"user {number}" for number in range(80)]
    ones = [1] * len(many)
    with superuser(db) as connection:
        add_worlds(connection, 0, LINUCB, many, ones, ones)
        add_worlds(connection, 0, EPSILON_GREEDY, many[:9], ones[:9], ones[:9])
        add_worlds(connection, 1, LINUCB, many, ones, ones)
        add_worlds(connection, 1, EPSILON_GREEDY, many, ones, ones, is_assigned=False)
        add_worlds(connection, 1, UNIFORM, few, [10, 10], [5, 5])
        add_worlds(connection, 2, LINUCB, few, [10, 10], [5, 5])
        add_worlds(connection, 2, UNIFORM, many, ones, ones)
        add_worlds(connection, 3, LINUCB, many, ones, ones)
        add_worlds(connection, 3, UNIFORM, many[:9], ones[:9], ones[:9])
    no_hold_out = "no hold-out: no policy with traffic draws everything at random"
    reasons = [
        {LINUCB: no_hold_out, EPSILON_GREEDY: "fewer than 10 rewards"},
        {
            LINUCB: "rewards of fewer than 5 groups of users of the hold-out",
            EPSILON_GREEDY: "the traffic assigned it no decision",
            UNIFORM: "rewards of fewer than 5 groups of users",
        },
        {LINUCB: "rewards of fewer than 5 groups of users", UNIFORM: None},
        {LINUCB: "fewer than 10 rewards of the hold-out", UNIFORM: "fewer than 10 rewards"},
    ]
    for rows, expected in zip(read_worlds(db, len(reasons)), reasons, strict=True):
        assert {policy: row["unknown_because"] for policy, row in rows.items()} == expected
        assert {row["lift"] for row in rows.values()} | {row["probability_best"] for row in rows.values()} == {None}
        assert {row["hold_out"] for row in rows.values()} == {UNIFORM if UNIFORM in rows else None}


def test_probabilities_of_two(db: Engine) -> None:
    """Of two, the probability to be the best is the distribution function of the difference, also if one is certain."""
    rng = np.random.default_rng(20261126)
    for _ in range(60):
        means = rng.normal(size=2)
        errors = 10 ** rng.uniform(-3, 0.5, 2)
        expected = NormalDist().cdf((means[0] - means[1]) / np.hypot(*errors))
        assert compute_best(db, means.tolist(), errors.tolist()) == pytest.approx([expected, 1 - expected], abs=1e-3)
    assert compute_best(db, [0.1, 0.1], [0.3, 0.3]) == pytest.approx([0.5, 0.5])
    assert compute_best(db, [0.1, 0.1], [0.0, 0.0]) == pytest.approx([0.5, 0.5])
    assert compute_best(db, [0.2, 0.1], [0.0, 0.0]) == pytest.approx([1, 0])


def test_probabilities_of_several(db: Engine) -> None:
    """Of several, they equal the integral of the density times the product of the other distribution functions."""
    rng = np.random.default_rng(20261127)
    for n in (1, 3, 4, 7, 40):
        means, errors = rng.normal(scale=0.1, size=n), rng.uniform(0.01, 0.2, n)
        assert compute_best(db, means.tolist(), errors.tolist()) == pytest.approx(integrate(means, errors), abs=1e-3)
    unknown = compute_best(db, [0.1, None, 0.2, 0.3], [0.1, 0.1, None, 0.1])
    assert unknown == [pytest.approx(0.0786, abs=1e-3), None, None, pytest.approx(0.9214, abs=1e-3)]
    assert compute_best(db, [None], [None]) == [None]


def test_coverage_with_different_users(db: Engine) -> None:
    """95 % intervals of the lift cover the truth in at least 92 of 100 worlds; equal policies are even.

    The traffic assigns 300 users with base rates of standard deviation 0.2. The day stands for the world.
    """
    rng = np.random.default_rng(20261129)
    worlds, users = 200, 300
    effects = {LINUCB: 0.1, EPSILON_GREEDY: 0.0, UNIFORM: 0.0}
    with superuser(db) as connection:
        for world in range(worlds):
            traffic = Traffic(f"salt {world}", {LINUCB: 0.4, EPSILON_GREEDY: 0.3, UNIFORM: 0.3})
            ids = np.array([f"user {world} {number}" for number in range(users)])
            policies = np.array([traffic.pick(user_id) for user_id in ids])
            base = np.clip(0.45 + 0.2 * rng.standard_normal(users), 0, 0.9)
            counts = rng.integers(1, 24, users)
            for policy, effect in effects.items():
                own = policies == policy
                done = rng.binomial(counts[own], base[own] + effect)
                add_worlds(connection, world, policy, ids[own].tolist(), counts[own].tolist(), done.tolist())
    covered = dict.fromkeys((LINUCB, EPSILON_GREEDY), 0)
    equals, better = [], []
    for rows in read_worlds(db, worlds):
        for policy in covered:
            covered[policy] += rows[policy]["lift_low"] <= effects[policy] <= rows[policy]["lift_high"]
        assert sum(row["probability_best"] for row in rows.values()) == pytest.approx(1)
        better.append(rows[LINUCB]["probability_best"])
        equals.append(rows[EPSILON_GREEDY]["probability_best"] - rows[UNIFORM]["probability_best"])
    assert all(count >= 0.92 * worlds for count in covered.values()), covered
    # Even, but for chance: 0.03 is four standard errors of the mean of as many worlds.
    assert abs(np.mean(equals)) < 0.03
    assert np.mean(better) > 0.9


_ADD_WORLD = """
    INSERT INTO oo_ml.daily_user_groups (
        day, policy, exploring, reaction, user_group, assigned, decisions, rewards, weights, weights_squared,
        weighted_rewards, modelled, random_estimates, choices, unsupported
    )
    SELECT
        date '2026-01-01' + CAST(:world AS integer), :policy, true, r.reaction, analytics.user_group(u.user_id),
        :is_assigned, sum(r.n), sum(r.n * r.reward), 0, 0, 0, 0, 0, sum(r.n), 0
    FROM unnest(CAST(:users AS text[]), CAST(:counts AS integer[]), CAST(:done AS integer[]))
        AS u (user_id, decisions, done)
    CROSS JOIN LATERAL (VALUES ('done', u.done, 1), ('snooze', u.decisions - u.done, 0)) AS r (reaction, n, reward)
    GROUP BY r.reaction, analytics.user_group(u.user_id)
"""
# One plan for all worlds: planning a report takes far longer than reading the few rows of a day.
_READ_WORLDS = """
    SELECT world, lift.* FROM generate_series(0, :worlds - 1) AS world
    CROSS JOIN LATERAL analytics.policy_lift_between(date '2026-01-01' + world, date '2026-01-01' + world) AS lift
"""


def add_worlds(
    connection: Connection,
    world: int,
    policy: str,
    users: Sequence[str],
    counts: Sequence[int],
    done: Sequence[int],
    *,
    is_assigned: bool = True,
) -> None:
    """Add decisions of users to the groups of a world, as upkeep would; `done` of a user's `counts` have reward 1."""
    columns = {"world": world, "policy": policy, "users": users, "counts": counts, "done": done}
    connection.execute(text(_ADD_WORLD), {**columns, "is_assigned": is_assigned})


def read_worlds(db: Engine, worlds: int) -> list[dict[str, dict[str, Any]]]:
    """Return the rows of each world by policy."""
    found: list[dict[str, dict[str, Any]]] = [{} for _ in range(worlds)]
    with writing(db) as connection:
        for row in connection.execute(text(_READ_WORLDS), {"worlds": worlds}).mappings():
            found[row["world"]][row["policy"]] = dict(row)
    return found


def read_lift(db: Engine) -> dict[str, dict[str, Any]]:
    """Return the rows of the view by policy."""
    with writing(db) as connection:
        rows = connection.execute(text("SELECT * FROM analytics.policy_lift")).mappings()
        return {row["policy"]: dict(row) for row in rows}


def compute_best(db: Engine, means: Sequence[float | None], errors: Sequence[float | None]) -> list[float | None]:
    """Return the result of probabilities_best."""
    statement = "SELECT to_jsonb(analytics.probabilities_best(CAST(:means AS float8[]), CAST(:errors AS float8[])))"
    with writing(db) as connection:
        found: list[float | None] = connection.scalar(text(statement), {"means": means, "errors": errors})
    return found


def integrate(means: Numbers, errors: Numbers) -> list[float]:
    """Return for each of n normal numbers the probability to be the greatest, by the rule of midpoints on one grid."""
    ends = np.linspace(-2.0, 2.0, 20_001)
    phi = np.vectorize(lambda z: (1 + erf(z / sqrt(2))) / 2)
    below = np.array([phi((ends - mean) / error) for mean, error in zip(means, errors, strict=True)])
    middle = (below[:, 1:] + below[:, :-1]) / 2
    return [
        float((np.diff(below[place]) * np.delete(middle, place, axis=0).prod(axis=0)).sum())
        for place in range(len(means))
    ]


def assert_right(db: Engine) -> None:
    """Compare the view with numpy."""
    statement = "SELECT * FROM oo_ml.feature_history WHERE policy_probability IS NOT NULL"
    with writing(db) as connection:
        seen = [dict(row) for row in connection.execute(text(statement)).mappings()]
    found = read_lift(db)
    assert found.keys() == {LINUCB, EPSILON_GREEDY, UNIFORM}
    expected: dict[str, dict[str, Any]] = {}
    variances = {}
    for policy in found:
        own = [one for one in seen if one["policy"] == policy]
        r = np.array([one["reward"] for one in own if one["reward"] is not None])
        groups = [find_group(one["user_id"]) for one in own if one["reward"] is not None]
        error = compute_error((r - r.mean()) / len(r), groups)
        assert error is not None
        variances[policy] = (error**2, len(set(groups)) - 1)
        expected[policy] = {
            "hold_out": UNIFORM,
            "decisions": len(own),
            "share": len(own) / len(seen),
            "rewarded": len(r),
            "user_groups": len(set(groups)),
            "unknown_because": None,
            **build_interval("mean_reward", r.mean(), (r - r.mean()) / len(r), groups),
            **dict.fromkeys(("lift", "lift_low", "lift_high")),
        }
    best = integrate(
        np.array([row["mean_reward"] for row in expected.values()]),
        np.array([np.sqrt(variance) for variance, _ in variances.values()]),
    )
    for (policy, row), probability in zip(expected.items(), best, strict=True):
        row["probability_best"] = pytest.approx(probability, abs=1e-3)
        if policy != UNIFORM:
            both = [variances[policy], variances[UNIFORM]]
            variance = sum(one for one, _ in both)
            # Welch (1947).
            degrees = int(variance**2 / sum(one**2 / degrees for one, degrees in both))
            margin = t95(degrees) * np.sqrt(variance)
            lift = row["mean_reward"] - expected[UNIFORM]["mean_reward"]
            row |= {"lift": lift, "lift_low": lift - margin, "lift_high": lift + margin}
        for name, number in row.items():
            is_number = isinstance(number, float)
            assert found[policy][name] == (pytest.approx(number, rel=1e-8, abs=1e-9) if is_number else number), name
