"""The state of a user and a policy: counters, theta by label, and its intervals."""

import numpy as np
import pytest

from tests import calls
from tests.api.decisions.decisions import reward_of
from tests.serving import Service

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
        "last_updated": None,
    }
    assert len(theta) == 11
    for one in theta:
        assert (one["estimate"], one["low"], one["high"]) == (0, pytest.approx(-1.959964), pytest.approx(1.959964))


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


def test_policies_of_the_contract(service: Service) -> None:
    """The contract's stats and this call agree."""
    service.client.post("/reward", json=calls.reward())
    stats = service.client.get("/stats/ada").json()
    known = service.client.get("/policies/linucb-v1/users/ada").json()
    assert [one["estimate"] for one in known["theta"]] == stats["theta"]
    assert known["reward_count"] == stats["reward_count"] == 1
