"""Corrections: PUT replaces the reward of a decision, DELETE retracts it; neither reaches the model after a reset."""

import numpy as np
import pytest
from sqlalchemy import Engine, text

from tests import calls
from tests.api.decisions.decisions import make_decision, new_id, read_counters, read_receipt, reward_of, reward_path
from tests.gates import scalar
from tests.serving import Service
from tests.sessions import writing


def test_amending_a_reward(service: Service, db: Engine) -> None:
    """PUT replaces the reward: b changes, A stays, the ledger has both entries, and a repetition changes nothing."""
    decision = make_decision(service)
    service.client.post("/reward", json=reward_of(decision, 1.0))
    answers = [service.client.put(reward_path(decision), json={"reward": -0.5}).json() for _ in range(2)]
    said = {"ok": True, "reward": -0.5, "decision_id": decision["decision_id"]}
    assert answers == [said | {"applied": True}, said | {"applied": False}]
    assert read_counters(service) == (1, 1, -0.5)
    with writing(db) as connection:
        x = connection.scalars(text("SELECT x FROM oo_ml.feature_history")).one()
        state = connection.execute(text("SELECT a, b, version FROM oo_ml.policy_state")).one()
    np.testing.assert_allclose(state.a, np.eye(5) + np.outer(x, x), atol=1e-15)
    np.testing.assert_allclose(state.b, -0.5 * x, atol=1e-15)
    assert state.version == 2
    assert [(entry["kind"], entry["reward"]) for entry in read_receipt(service, decision)["rewards"]] == [
        ("reward", 1.0),
        ("amend", -0.5),
    ]


def test_retracting_a_reward(service: Service, db: Engine) -> None:
    """DELETE restores A and b; a late repetition of the reward does not bring it back, a new PUT does."""
    decision = make_decision(service)
    service.client.post("/reward", json=reward_of(decision, 1.0))
    answers = [service.client.delete(reward_path(decision)).json() for _ in range(2)]
    said = {"ok": True, "reward": None, "decision_id": decision["decision_id"]}
    assert answers == [said | {"applied": True}, said | {"applied": False}]
    assert read_counters(service) == (1, 0, 0.0)
    with writing(db) as connection:
        state = connection.execute(text("SELECT a, b FROM oo_ml.policy_state")).one()
    np.testing.assert_allclose(state.a, np.eye(5), atol=1e-15)
    np.testing.assert_allclose(state.b, np.zeros(5), atol=1e-15)
    assert service.client.post("/reward", json=reward_of(decision, 1.0)).json() == said | {"applied": False}
    assert read_receipt(service, decision)["reward_kind"] == "retract"
    assert service.client.put(reward_path(decision), json={"reward": 0.25}).json()["applied"] is True
    assert read_counters(service) == (1, 1, 0.25)
    shown = read_receipt(service, decision)
    assert (shown["reward"], shown["reward_kind"]) == (0.25, None)
    assert [entry["kind"] for entry in shown["rewards"]] == ["reward", "retract", "reward"]


def test_correcting_a_decision_without_a_reward(service: Service) -> None:
    """PUT gives it a reward, which a later POST does not change; DELETE changes nothing."""
    first, second = make_decision(service), make_decision(service)
    assert service.client.delete(reward_path(second)).json()["applied"] is False
    assert service.client.put(reward_path(first), json={"reward": 0.0}).json()["applied"] is True
    late = service.client.post("/reward", json=reward_of(first, 1.0)).json()
    assert (late["applied"], late["reward"]) == (False, 0.0)
    assert service.client.post("/reward", json=reward_of(second, 1.0)).json()["applied"] is True
    assert read_counters(service) == (2, 2, 1.0)


def test_correcting_a_reward_without_a_decision_id(service: Service, db: Engine) -> None:
    """Retracting it uses the features it was learned with, which differ from those of the decision."""
    decision = make_decision(service)
    service.client.post("/reward", json=calls.reward(features={"hour_of_day": 3, "priority": 2}))
    service.client.delete(reward_path(decision))
    with writing(db) as connection:
        state = connection.execute(text("SELECT a, b FROM oo_ml.policy_state")).one()
        decided_x, learned_x = connection.execute(
            text("SELECT h.x, l.x FROM oo_ml.feature_history AS h, oo_ml.reward_ledger AS l WHERE l.kind = 'retract'")
        ).one()
    assert not np.array_equal(decided_x, learned_x)
    np.testing.assert_allclose(state.a, np.eye(5), atol=1e-15)
    np.testing.assert_allclose(state.b, np.zeros(5), atol=1e-15)


def test_correcting_an_unknown_decision(service: Service, db: Engine) -> None:
    """An unknown decision is a 404 and creates no user; an invalid id is a 422."""
    for user_id, name, status in [("ada", new_id(), 404), ("zoe", new_id(), 404), ("ada", "x", 422)]:
        path = f"/users/{user_id}/decisions/{name}"
        assert service.client.get(path).status_code == status
        assert service.client.put(f"{path}/reward", json={"reward": 1}).status_code == status
        assert service.client.delete(f"{path}/reward").status_code == status
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 0


@pytest.mark.parametrize("body", [{}, {"reward": None}, {"reward": 1.01}, {"reward": "1"}, {"reward": True}, []])
def test_invalid_corrections(service: Service, body: object) -> None:
    """A correction that is not a valid reward is a 422, and the reward stays."""
    decision = make_decision(service)
    service.client.post("/reward", json=reward_of(decision, 1.0))
    assert service.client.put(reward_path(decision), json=body).status_code == 422
    assert read_receipt(service, decision)["reward"] == 1.0


# After a reset


def test_rewards_after_a_reset(service: Service, db: Engine) -> None:
    """Rewards and corrections of earlier decisions enter the old epoch's ledger and do not change the new model."""
    decision = make_decision(service)
    earlier = make_decision(service)
    service.client.post("/reward", json=reward_of(earlier, 1.0))
    service.client.post("/reset/ada")
    make_decision(service)
    assert service.client.post("/reward", json=reward_of(decision, 0.5)).json()["applied"] is True
    assert service.client.put(reward_path(earlier), json={"reward": -1}).json()["applied"] is True
    assert service.client.delete(reward_path(decision)).json()["applied"] is True
    assert read_counters(service) == (1, 0, 0.0)
    assert scalar(db, "SELECT version FROM oo_ml.policy_state WHERE policy = 'linucb-v1'") == 0
    assert scalar(db, "SELECT array_agg((epoch, version, kind)::text ORDER BY version) FROM oo_ml.reward_ledger") == [
        "(0,1,reward)",
        "(0,2,reward)",
        "(0,3,amend)",
        "(0,4,retract)",
    ]
