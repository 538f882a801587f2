"""Receipts: everything that is stored about one decision."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.population import START
from tests import calls
from tests.api.decisions.decisions import make_decision, read_receipt, reward_of, reward_path
from tests.conftest import Serve
from tests.pooled_users import POOLED, fit, live
from tests.serving import Service
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers


def test_receipt(serve: Serve) -> None:
    """A receipt has the candidates with their scores and propensities, the draw, the state's version and the reward."""
    service = serve(exploration=0.2, alpha=2.0)
    service.client.post("/reward", json=calls.reward(value=0.5))
    decision = make_decision(service)
    shown = read_receipt(service, decision)
    chosen = next(candidate for candidate in shown["candidates"] if candidate["id"] == decision["tip_id"])
    assert [candidate["id"] for candidate in shown["candidates"]] == ["t1", "t2"]
    assert shown["score"] == decision["score"] == chosen["exploit"] + chosen["explore"]
    assert shown["propensity"] == decision["propensity"] == chosen["propensity"]
    assert sum(candidate["propensity"] for candidate in shown["candidates"]) == pytest.approx(1)
    assert (shown["exploration"], shown["alpha"], shown["epoch"], shown["version"]) == (0.2, 2.0, 0, 1)
    whether, which = shown["draw"]
    assert shown["exploring"] == (whether < 0.2)
    if shown["exploring"]:
        assert shown["candidates"][int(which * 2)]["id"] == decision["tip_id"]
    x = np.array([np.sqrt(0.5), -np.sqrt(0.5), 0, 0, 1])  # of t1
    A, b = np.eye(5) + np.outer(x, x), 0.5 * x  # the one reward was for t1
    assert shown["candidates"][0]["exploit"] == pytest.approx(x @ np.linalg.solve(A, b))
    assert shown["candidates"][0]["explore"] == pytest.approx(2.0 * np.sqrt(x @ np.linalg.solve(A, x)))
    assert (shown["reward"], shown["rewarded_at"], shown["rewards"]) == (None, None, [])
    assert shown["decided_at"].endswith("Z")
    assert shown["context"] == {"hour_of_day": 9, "day_of_week": 2}


def test_parts_of_the_population(serve: Serve, db: Engine) -> None:
    """A receipt splits theta.x of the tip into the part of the prior and that of the user's own rewards."""
    simulated = SimulatedUsers(db, 72)
    live(simulated, users=5, decisions=8)
    prior = fit(db, None, simulated.now)
    service = serve(policy_max_age=1e-9)
    tasks: list[dict[str, Any]] = [{"is_overdue": True, "priority": 4}, {"is_overdue": False, "task_age_days": 9}]
    # The same tip twice, with other features.
    body: dict[str, Any] = {
        "context": {"hour_of_day": 9},
        "candidates": [{"id": "t", "features": task} for task in tasks],
    }
    for user_id in ("unknown", "user 3"):
        for task in tasks if user_id == "user 3" else []:
            # Of now, because rewards fade.
            reward = {"user_id": user_id, "tip_id": "t", "reward": 1, "context": body["context"], "features": task}
            assert service.client.post(f"/policies/{POOLED}/reward", json=reward).status_code == 200
        decision = service.client.post(f"/policies/{POOLED}/score", json=body | {"user_id": user_id}).json()
        shown = read_receipt(service, decision, user_id.replace(" ", "%20"))
        chosen = next(one for one in shown["candidates"] if one["exploit"] + one["explore"] == shown["score"])
        assert shown["prior_version"] == 1
        assert shown["prior_score"] + shown["own_score"] == pytest.approx(chosen["exploit"], abs=1e-12)
        # By the age of the policy.
        assert shown["weight"] == pytest.approx(2 ** (age_of(shown["decided_at"]) / 75))
        if user_id == "unknown":
            assert shown["prior_score"] == pytest.approx(prior.mean @ shown["x"])
            assert shown["own_score"] == pytest.approx(0, abs=1e-12)
        else:
            assert shown["own_score"] > 0.1


def age_of(decided_at: str) -> float:
    """Return the days from the start of the decay to a decision."""
    return (datetime.fromisoformat(decided_at) - START) / timedelta(days=1)


def test_receipt_without_a_population(service: Service) -> None:
    """A policy that learns about each user alone has null for the parts, and for the weight."""
    shown = read_receipt(service, make_decision(service))
    assert [shown[name] for name in ("prior_version", "prior_score", "own_score", "weight")] == [None] * 4


def test_rewards_in_a_receipt(service: Service) -> None:
    """A receipt lists each ledger entry with its kind, the reward before it, and its key."""
    decision = make_decision(service)
    service.client.post("/reward", json=reward_of(decision, 1.0), headers={"Idempotency-Key": "a"})
    service.client.put(reward_path(decision), json={"reward": 0.5})
    service.client.delete(reward_path(decision))
    rewards = read_receipt(service, decision)["rewards"]
    columns = ("version", "kind", "reward", "previous_reward", "idempotency_key")
    assert [tuple(entry[column] for column in columns) for entry in rewards] == [
        (1, "reward", 1.0, None, "a"),
        (2, "amend", 0.5, 1.0, None),
        (3, "retract", None, 0.5, None),
    ]
    times = [entry["recorded_at"] for entry in rewards]
    assert times == sorted(times)


def test_receipt_of_an_older_release(service: Service, db: Engine) -> None:
    """A decision of an older release has null for the values that were not stored then."""
    decision = make_decision(service)
    with writing(db) as connection:
        connection.execute(
            text("""
                UPDATE oo_ml.feature_history
                SET exploration = NULL, alpha = NULL, exploit = NULL, explore = NULL, propensities = NULL
            """)
        )
    shown = read_receipt(service, decision)
    assert (shown["exploration"], shown["alpha"], shown["propensity"]) == (None, None, 1.0)
    assert [candidate["propensity"] for candidate in shown["candidates"]] == [None, None]


def test_receipts_of_users_with_awkward_ids(service: Service) -> None:
    """A slash, a percent sign and an id that looks like a path are parts of the id."""
    for user_id in ("a/b", "100%", "x/decisions/y/reward", "żółw ☃"):
        decision = make_decision(service, user_id)
        encoded = "".join(f"%{byte:02X}" for byte in user_id.encode())
        service.client.put(reward_path(decision, encoded), json={"reward": 1})
        shown = read_receipt(service, decision, encoded)
        assert (shown["user_id"], shown["reward"]) == (user_id, 1.0)
