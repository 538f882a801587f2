"""Rewards: each counts once, for its decision or for its Idempotency-Key."""

import json

import numpy as np
import pytest
from sqlalchemy import Engine, text

from tests import calls
from tests.api.decisions.decisions import make_decision, new_id, read_counters, reward_of, reward_path
from tests.gates import scalar
from tests.serving import Service
from tests.sessions import writing


@pytest.mark.parametrize("value", [1.0, 0.0, -0.5])
def test_repeated_reward(service: Service, db: Engine, value: float) -> None:
    """Only the first reward of a decision counts, 0.0 too; later ones change nothing and are told the first."""
    decision = make_decision(service)
    answer = service.client.post("/reward", json=reward_of(decision, value))
    said = {"ok": True, "reward": value, "decision_id": decision["decision_id"]}
    assert answer.json() == said | {"applied": True}
    for repeated in (value, 0.75):
        again = service.client.post("/reward", json=reward_of(decision, repeated))
        assert (again.status_code, again.json()) == (200, said | {"applied": False})
    assert read_counters(service) == (1, 1, value)
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 1


def test_features_of_a_reward_for_a_decision(service: Service, db: Engine) -> None:
    """A reward with a decision_id uses the decision's x and policy, whatever features and path it came with."""
    decision = make_decision(service, path="/score/egreedy")
    lies = {"features": {"hour_of_day": 3, "is_overdue": True, "priority": 1}, "day_of_week": 6}
    answer = service.client.post("/reward", json=reward_of(decision, 1.0) | lies)
    assert answer.json()["applied"] is True
    assert read_counters(service) == (0, 0, 0.0)
    assert service.client.get("/stats/egreedy/ada").json()["reward_count"] == 1
    with writing(db) as connection:
        stored = connection.scalars(text("SELECT x FROM oo_ml.feature_history")).one()
        learned = connection.scalars(text("SELECT x FROM oo_ml.reward_ledger")).one()
        state = connection.execute(text("SELECT a, b FROM oo_ml.policy_state WHERE policy = 'egreedy-v1'")).one()
    assert stored.tobytes() == learned.tobytes()
    assert np.array_equal(state.a, np.eye(7) + np.outer(stored, stored))
    assert np.array_equal(state.b, stored)


def test_reward_for_a_wrong_decision(service: Service, db: Engine) -> None:
    """An unknown decision or another user's is a 404, and another tip is a 409; nothing is learned."""
    decision = make_decision(service)
    unknown = reward_of(decision, 1.0) | {"decision_id": new_id()}
    foreign = reward_of(decision, 1.0, user_id="ben")
    other_tip = reward_of(decision, 1.0) | {"tip_id": "t2"}
    for body, expected in [
        (unknown, (404, "unknown_decision")),
        (foreign, (404, "unknown_decision")),
        (other_tip, (409, "other_tip")),
    ]:
        answer = service.client.post("/reward", json=body)
        assert (answer.status_code, answer.json()["code"]) == expected
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 0
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 1


def test_missing_features(service: Service) -> None:
    """A reward without a decision_id and without features is a 422."""
    body = calls.reward()
    del body["features"]
    answer = service.client.post("/reward", json=body)
    assert answer.status_code == 422
    assert [problem["loc"] for problem in answer.json()["detail"]] == [["body", "features"]]


def test_reward_without_a_decision_id(service: Service) -> None:
    """The reward goes to the latest decision of its tip without a reward; if there is none, it counts all the same."""
    first, second = make_decision(service), make_decision(service)
    service.client.post("/reward", json=reward_of(second, 1.0))
    answers = [service.client.post("/reward", json=calls.reward(value=value)).json() for value in (0.5, -1.0)]
    assert answers == [
        {"ok": True, "applied": True, "reward": 0.5, "decision_id": first["decision_id"]},
        {"ok": True, "applied": True, "reward": -1.0, "decision_id": None},
    ]
    assert read_counters(service) == (2, 3, 0.5)


# The Idempotency-Key


def test_repeated_idempotency_key(service: Service) -> None:
    """The same key and body count once; other keys, and calls without a key, count each."""
    body = calls.reward(value=0.5)
    answers = [
        service.client.post("/reward", json=body, headers=headers).json()
        for headers in ({"Idempotency-Key": "a"}, {"Idempotency-Key": "a"}, {"Idempotency-Key": "b"}, {}, {})
    ]
    assert [answer["applied"] for answer in answers] == [True, False, True, True, True]
    assert {answer["reward"] for answer in answers} == {0.5}
    assert read_counters(service) == (0, 4, 2.0)


def test_decision_of_a_repeated_key(service: Service) -> None:
    """A repeated key is answered with the decision that the reward went to."""
    decision = make_decision(service)
    answers = [
        service.client.post("/reward", json=calls.reward(), headers={"Idempotency-Key": "a"}).json() for _ in range(2)
    ]
    assert [answer["decision_id"] for answer in answers] == [decision["decision_id"]] * 2


@pytest.mark.parametrize("names_the_decision", [True, False])
def test_repeated_key_after_a_correction(service: Service, *, names_the_decision: bool) -> None:
    """A repeated key is answered with the reward after its correction, and changes nothing."""
    decision = make_decision(service)
    body = reward_of(decision, 1.0) if names_the_decision else calls.reward()
    headers = {"Idempotency-Key": "a"}
    service.client.post("/reward", json=body, headers=headers)
    said = {"ok": True, "applied": False, "decision_id": decision["decision_id"]}
    service.client.put(reward_path(decision), json={"reward": -0.5})
    assert service.client.post("/reward", json=body, headers=headers).json() == said | {"reward": -0.5}
    service.client.delete(reward_path(decision))
    assert service.client.post("/reward", json=body, headers=headers).json() == said | {"reward": None}
    assert read_counters(service) == (1, 0, 0.0)


def test_negative_zero(service: Service) -> None:
    """As a reward, -0.0 is the same as 0."""
    answers = [
        service.client.post(
            "/reward",
            content=json.dumps(calls.reward()).replace('"reward": 1.0', f'"reward": {zero}'),
            headers={"Idempotency-Key": "a"},
        )
        for zero in ("0.0", "-0.0", "0")
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [answer.json()["applied"] for answer in answers] == [True, False, False]
    assert "-0" not in answers[1].text.split("decision_id")[0]


def test_idempotency_key_of_another_request(service: Service) -> None:
    """A key used for another reward, tip or policy is a 409; another user may use the same key."""
    headers = {"Idempotency-Key": "a"}
    assert service.client.post("/reward", json=calls.reward(), headers=headers).status_code == 200
    for path, body in [
        ("/reward", calls.reward(value=0.5)),
        ("/reward", calls.reward(tip_id="t2")),
        ("/reward/egreedy", calls.reward()),
    ]:
        answer = service.client.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert service.client.post("/reward", json=calls.reward("ben"), headers=headers).json()["applied"] is True
    assert read_counters(service) == (0, 1, 1.0)


def test_repeated_key_after_a_reset(service: Service) -> None:
    """A retry that arrives after a reset teaches the new model nothing."""
    headers = {"Idempotency-Key": "a"}
    service.client.post("/reward", json=calls.reward(), headers=headers)
    service.client.post("/reset/ada")
    assert service.client.post("/reward", json=calls.reward(), headers=headers).json()["applied"] is False
    assert read_counters(service) == (0, 0, 0.0)


@pytest.mark.parametrize("bad", [b"", b"a" * 201, b"a\tb", b"\x80"])
def test_invalid_idempotency_keys(service: Service, bad: bytes) -> None:
    """A key that is not 1 to 200 bytes without control characters is a 422 that names the header."""
    answer = service.client.post("/reward", json=calls.reward(), headers={b"Idempotency-Key": bad})
    assert answer.status_code == 422
    assert [problem["loc"] for problem in answer.json()["detail"]] == [["header", "idempotency-key"]]
    assert read_counters(service) == (0, 0, 0.0)
