"""policy_values against numpy, and against the true value of drawing at random."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests.policies import DIMENSIONS, Parameters
from tests.services.upkeep.daily_sums.counting import count_all
from tests.sessions import writing
from tests.simulated_users import CERTAIN, SimulatedUsers

Z95 = 1.959963984540054


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
        decision = simulated.decide("ada", policy, ids=ids, parameters=CERTAIN if policy == LINUCB else None)
        simulated.react(decision)
    rows = read_values(db)
    linucb, egreedy = rows[LINUCB], rows[EPSILON_GREEDY]
    assert linucb["mean_reward"] is not None
    estimates = [name for name in linucb if name.startswith(("random_", "gain", "effective"))]
    assert [linucb[name] for name in estimates] == [None] * 7
    assert (linucb["unsupported"], linucb["unknown_because"]) == (120, "nothing was drawn at random")
    assert None not in [egreedy[name] for name in estimates]
    assert (egreedy["unsupported"], egreedy["unknown_because"]) == (0, None)


def test_truth(db: Engine) -> None:
    """The interval contains the mean worth of the candidates, which is what drawing at random earns."""
    simulated = SimulatedUsers(db, 33)
    for _ in range(400):
        simulated.react(simulated.decide("ada", LINUCB, ids=["a", "b", "c"]))
    truth = np.mean([np.mean(worths) for worths in simulated.worths])
    found = read_values(db)[LINUCB]
    assert found["random_mean_reward_low"] < truth < found["random_mean_reward_high"]
    assert found["gain"] == pytest.approx(found["mean_reward"] - found["random_mean_reward"])


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
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-9)


def compute_naively(rewarded: list[dict[str, Any]]) -> dict[str, Any]:
    """Compute the numbers of a row with numpy, the margins from the influence of each decision."""
    r = np.array([one["reward"] for one in rewarded])
    w = np.array([1 / (one["propensity"] * (one["prompt_probability"] or 1)) for one in rewarded])
    mean, at_random = r.mean(), (w * r).sum() / w.sum()
    influences = {
        "random_mean_reward": w * (r - at_random) / w.sum(),
        "gain": (r - mean) / len(r) - w * (r - at_random) / w.sum(),
    }
    margin = Z95 * r.std(ddof=1) / np.sqrt(len(r))
    numbers = {
        "rewarded": len(r),
        "mean_reward": mean,
        "mean_reward_low": mean - margin,
        "mean_reward_high": mean + margin,
        "random_mean_reward": at_random,
        "gain": mean - at_random,
        "effective_sample_size": w.sum() ** 2 / (w**2).sum(),
    }
    for name, influence in influences.items():
        margin = Z95 * np.sqrt((influence**2).sum())
        numbers[f"{name}_low"], numbers[f"{name}_high"] = numbers[name] - margin, numbers[name] + margin
    return numbers


def read_values(db: Engine) -> dict[str, dict[str, Any]]:
    """Return the rows of the view by policy."""
    with writing(db) as connection:
        rows = connection.execute(text("SELECT * FROM analytics.policy_values")).mappings()
        return {row["policy"]: dict(row) for row in rows}
