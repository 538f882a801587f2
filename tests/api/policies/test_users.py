"""The state of a user and a policy: counters, theta by label, and its intervals."""

from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine

from oo_ml.storage.policy_state import read_states
from tests import calls
from tests.api.decisions.decisions import reward_of
from tests.conftest import Serve
from tests.policies import builtin
from tests.pooled_users import POOLED, fit, live
from tests.serving import Service
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers

Numbers = NDArray[np.float64]

USER = f"/policies/{calls.ARTICLES}/users"


def test_unknown_user(articles: Service) -> None:
    """An unknown user has zeros, and the widest intervals: 1.96 to both sides."""
    known = articles.client.get(f"{USER}/unknown").json()
    theta = known.pop("theta")
    assert known == {
        "user_id": "unknown",
        "policy": calls.ARTICLES,
        "pulls": 0,
        "explore_count": 0,
        "exploration_rate": 0.0,
        "reward_count": 0,
        "cumulative_reward": 0.0,
        "estimated_mean_reward": 0.0,
        "own_evidence": None,
        "prior_version": None,
        "last_updated": None,
    }
    assert len(theta) == 11
    for one in theta:
        assert (one["estimate"], one["low"], one["high"]) == (0, pytest.approx(-1.959964), pytest.approx(1.959964))
        assert one["population"] is None


def test_theta(articles: Service) -> None:
    """Theta is A^-1 b with intervals from the diagonal of A^-1, each beside its label."""
    answer = articles.client.post(f"/policies/{calls.ARTICLES}/score", json=calls.score_articles("team/ada")).json()
    receipt = articles.client.get(f"/users/team%2Fada/decisions/{answer['decision_id']}").json()
    articles.client.post("/reward", json=reward_of(answer, 0.5, "team/ada"))
    known = articles.client.get(f"{USER}/team%2Fada").json()
    assert (known["pulls"], known["reward_count"], known["estimated_mean_reward"]) == (1, 1, 0.5)
    x = np.array(receipt["x"])
    A = np.eye(len(x)) + np.outer(x, x)
    widths = 1.959964 * np.sqrt(np.diag(np.linalg.inv(A)))
    estimates = np.linalg.solve(A, 0.5 * x)
    assert [one["label"] for one in known["theta"]] == receipt["labels"]
    for name, expected in (("estimate", estimates), ("low", estimates - widths), ("high", estimates + widths)):
        np.testing.assert_allclose([one[name] for one in known["theta"]], expected, atol=1e-5)


def test_unknown_user_of_a_pooled_policy(service: Service) -> None:
    """Before the first fit an unknown user has theta 0 with the variance 0.35, as the population has."""
    known = service.client.get(f"/policies/{POOLED}/users/unknown").json()
    assert (known["own_evidence"], known["prior_version"], known["reward_count"]) == (0, 0, 0)
    width = pytest.approx(1.959964 * np.sqrt(0.35))
    for one in known["theta"]:
        assert one["population"] == {name: one[name] for name in ("estimate", "low", "high")}
        assert (one["estimate"], -one["low"], one["high"]) == (0, width, width)


def test_population(serve: Serve, db: Engine) -> None:
    """Theta starts from the prior and follows the user's own rewards; the population stands beside it."""
    simulated = SimulatedUsers(db, 71)
    live(simulated, users=5, decisions=8)
    prior = fit(db, None, simulated.now)
    service = serve(policy_max_age=1e-9)
    path = f"/policies/{POOLED}/users"
    covariance = prior.covariance + prior.mean_covariance
    ends = 1.959964 * np.sqrt(np.diag(covariance))
    stranger = service.client.get(f"{path}/unknown").json()
    assert (stranger["own_evidence"], stranger["prior_version"]) == (pytest.approx(0, abs=1e-9), 1)
    assert stranger["own_evidence"] >= 0
    assert_theta(stranger["theta"], prior.mean, ends)
    # Of now, because rewards fade.
    reward = {"user_id": "user 3", "tip_id": "t", "reward": 1, "context": {}, "features": {"priority": 4}}
    for _ in range(5):
        assert service.client.post(f"/policies/{POOLED}/reward", json=reward).status_code == 200
    known = service.client.get(f"{path}/user%203").json()
    with writing(db) as connection:
        state = read_states(connection, "user 3")[POOLED]
    population = builtin(POOLED).population
    assert population is not None
    scale = 1 / (population.weigh(datetime.now(UTC)) * prior.noise_variance)
    precision = np.linalg.inv(covariance) + scale * state.evidence.A
    V = np.linalg.inv(precision)
    mean = V @ (np.linalg.solve(covariance, prior.mean) + scale * state.evidence.b)
    assert_theta(known["theta"], mean, 1.959964 * np.sqrt(np.diag(V)))
    assert known["own_evidence"] == pytest.approx(1 - np.trace(V @ np.linalg.inv(covariance)) / 12, abs=1e-6)
    assert known["own_evidence"] > 0.05
    for shown in (stranger, known):
        assert_theta([one["population"] for one in shown["theta"]], prior.mean, ends)


def assert_theta(shown: list[dict[str, float]], estimates: Numbers, widths: Numbers) -> None:
    """Compare coefficients with estimates and half the widths of their intervals. Rewards fade meanwhile."""
    for name, expected in (("estimate", estimates), ("low", estimates - widths), ("high", estimates + widths)):
        np.testing.assert_allclose([one[name] for one in shown], expected, atol=1e-5)


def test_policies_of_the_contract(service: Service) -> None:
    """The contract's stats and this call agree."""
    service.client.post("/reward", json=calls.reward())
    stats = service.client.get("/stats/ada").json()
    known = service.client.get("/policies/linucb-v1/users/ada").json()
    assert [one["estimate"] for one in known["theta"]] == stats["theta"]
    assert known["reward_count"] == stats["reward_count"] == 1
