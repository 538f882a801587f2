"""Decisions over HTTP: ids, rewards, Idempotency-Keys, corrections and receipts."""

import json
import time
import uuid
from typing import Any

import numpy as np
import pytest
import uuid_utils.compat as uuid_utils
from sqlalchemy import Engine, text

from tests import calls
from tests.chance import draws
from tests.conftest import Serve
from tests.gates import scalar
from tests.serving import Service
from tests.sessions import writing

DAY = 86_400_000


def new_id(milliseconds_ahead: float = 0) -> str:
    """A UUIDv7 of about now."""
    moment = int(time.time() * 1000 + milliseconds_ahead)
    return str(uuid.UUID(int=moment << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1))


def decided(service: Service, user_id: str = "ada", path: str = "/score", **overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Make a decision whose id is the client's, and return the answer."""
    response = service.client.post(path, json=calls.score(user_id, decision_id=new_id(), **overrides))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def reward_of(decision: dict[str, Any], value: float, user_id: str = "ada") -> dict[str, Any]:
    """The reaction to a decision, by its id alone."""
    return {
        "user_id": user_id,
        "tip_id": decision["tip_id"],
        "reward": value,
        "decision_id": decision["decision_id"],
    }


def receipt(service: Service, decision: dict[str, Any], user_id: str = "ada") -> dict[str, Any]:
    """Return the receipt of a decision."""
    response = service.client.get(f"/users/{user_id}/decisions/{decision['decision_id']}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def counters(service: Service, user_id: str = "ada") -> tuple[int, int, float]:
    """Return pulls, rewards and their sum, of linucb-v1."""
    stats = service.client.get(f"/stats/{user_id}").json()
    return stats["pulls"], stats["reward_count"], stats["cumulative_reward"]


# The decision


def test_repeated_decision(service: Service) -> None:
    """A repeated decision gets the stored answer and counts as one pull, even if the model has learned since."""
    body = calls.score(decision_id=new_id())
    first = service.client.post("/score", json=body)
    assert first.json()["decision_id"] == body["decision_id"]
    service.client.post("/reward", json=calls.reward(value=-1))
    assert service.client.post("/score", json=calls.score()).json()["tip_id"] != first.json()["tip_id"]
    again = service.client.post("/score", json=body)
    assert (again.status_code, again.content) == (200, first.content)
    assert counters(service)[0] == 2


def test_id_of_another_request(service: Service, db: Engine) -> None:
    """A decision_id used for another request is a 409, and nothing changes."""
    body = calls.score(decision_id=new_id())
    service.client.post("/score", json=body)
    made_here = service.client.post("/score", json=calls.score()).json()["decision_id"]
    others = [
        ("/score", body | {"context": {"hour_of_day": 10, "day_of_week": 2}}),
        ("/score", body | {"candidates": body["candidates"][:1]}),
        ("/score", body | {"candidates": [body["candidates"][0] | {"content": "x"}, body["candidates"][1]]}),
        ("/score/egreedy", body),
        ("/score", calls.score(decision_id=made_here)),
    ]
    for path, other in others:
        answer = service.client.post(path, json=other)
        assert (answer.status_code, answer.json()["code"]) == (409, "decision_exists")
    assert counters(service)[0] == 2
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 2


def test_equal_requests_in_other_spellings(service: Service) -> None:
    """The order of fields, spaces, and 1 for 1.0 make no difference to a repeated request."""
    body = calls.score(decision_id=new_id())
    body["candidates"][0]["features"]["task_age_days"] = 1
    first = service.client.post("/score", json=body).json()
    body["candidates"][0]["features"] = {"task_age_days": 1.0, "priority": 4}
    assert service.client.post("/score", json=dict(reversed(body.items()))).json() == first


def test_one_id_of_two_users(service: Service) -> None:
    """Two users may use the same decision_id; each gets a decision of their own."""
    name = new_id()
    for user_id in ("ada", "ben"):
        assert service.client.post("/score", json=calls.score(user_id, decision_id=name)).status_code == 200
    assert (counters(service, "ada")[0], counters(service, "ben")[0]) == (1, 1)


@pytest.mark.parametrize(
    "bad",
    [
        "01936f3e-0000-4000-8000-000000000000",
        "01936f3e-0000-7000-0000-000000000000",
        "x",
        7,
        "",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
)
def test_invalid_ids(service: Service, bad: object) -> None:
    """A decision_id that is not a UUIDv7 of the past or of today is a 422 with its place, and nothing is decided."""
    answer = service.client.post("/score", json=calls.score(decision_id=bad))
    assert answer.status_code == 422
    assert {tuple(problem["loc"]) for problem in answer.json()["detail"]} == {("body", "decision_id")}
    assert counters(service)[0] == 0


def test_ids_of_the_future_and_the_past(service: Service) -> None:
    """A decision_id may be up to one day ahead of the service's clock, and any time behind it."""
    answer = service.client.post("/score", json=calls.score(decision_id=new_id(DAY + 60_000)))
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "decision_id"])
    for name in (new_id(DAY - 60_000), "00000000-0001-7000-8000-000000000000"):
        answer = service.client.post("/score", json=calls.score(decision_id=name))
        assert (answer.status_code, answer.json()["decision_id"]) == (200, name)


def test_ids_past_retention(service: Service, db: Engine) -> None:
    """A new decision_id of a detached month is a 422; one of a month that is kept is answered as before."""
    kept = calls.score(decision_id=new_id(-40 * DAY))
    first = service.client.post("/score", json=kept)
    with writing(db) as connection:
        connection.execute(
            text("UPDATE oo_ml.upkeep SET done_until = now() - interval '10 days' WHERE task = 'retention'")
        )
    answer = service.client.post("/score", json=calls.score(decision_id=new_id(-20 * DAY)))
    assert (answer.status_code, answer.json()["code"]) == (422, "decision_too_old")
    assert service.client.post("/score", json=calls.score(decision_id=new_id(-5 * DAY))).status_code == 200
    assert service.client.post("/score", json=kept).content == first.content
    assert counters(service)[0] == 2


def test_refusals_create_no_state(service: Service, db: Engine) -> None:
    """A decision_id or Idempotency-Key repeated for the other policy is a 409 and creates no state of that policy."""
    body = calls.score(decision_id=new_id())
    service.client.post("/score", json=body)
    assert service.client.post("/score/egreedy", json=body).status_code == 409
    headers = {"Idempotency-Key": "a"}
    service.client.post("/reward", json=calls.reward(), headers=headers)
    assert service.client.post("/reward/egreedy", json=calls.reward(), headers=headers).status_code == 409
    assert scalar(db, "SELECT array_agg(policy) FROM oo_ml.policy_state") == ["linucb-v1"]


def test_pull_numbers(service: Service, db: Engine) -> None:
    """Decisions of a policy are numbered from 1 in each epoch, in batches too; a repetition gets no number."""
    named = calls.score(decision_id=new_id())
    for body in (named, calls.score(), named):
        service.client.post("/score", json=body)
    service.client.post("/score/egreedy", json=calls.score())
    batch = [calls.score("ben"), calls.score(), {**calls.score(), "policy": "egreedy-v1"}, calls.score(), named]
    assert service.client.post("/score/batch", json={"items": batch}).status_code == 200
    service.client.post("/reset/ada")
    service.client.post("/score", json=calls.score())
    counted = scalar(
        db, "SELECT array_agg((user_id, policy, epoch, pull)::text ORDER BY position) FROM oo_ml.feature_history"
    )
    assert counted == [
        "(ada,linucb-v1,0,1)",
        "(ada,linucb-v1,0,2)",
        "(ada,egreedy-v1,0,1)",
        "(ben,linucb-v1,0,1)",
        "(ada,linucb-v1,0,3)",
        "(ada,egreedy-v1,0,2)",
        "(ada,linucb-v1,0,4)",
        "(ada,linucb-v1,1,1)",
    ]


# The reward


@pytest.mark.parametrize("value", [1.0, 0.0, -0.5])
def test_repeated_reward(service: Service, db: Engine, value: float) -> None:
    """Only the first reward of a decision counts, 0.0 too; later ones change nothing and are told the first."""
    decision = decided(service)
    answer = service.client.post("/reward", json=reward_of(decision, value))
    said = {"ok": True, "reward": value, "decision_id": decision["decision_id"]}
    assert answer.json() == said | {"applied": True}
    for repeated in (value, 0.75):
        again = service.client.post("/reward", json=reward_of(decision, repeated))
        assert (again.status_code, again.json()) == (200, said | {"applied": False})
    assert counters(service) == (1, 1, value)
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 1


def test_features_of_a_reward_for_a_decision(service: Service, db: Engine) -> None:
    """A reward with a decision_id uses the decision's x and policy, whatever features and path it came with."""
    decision = decided(service, path="/score/egreedy")
    lies = {"features": {"hour_of_day": 3, "is_overdue": True, "priority": 1}, "day_of_week": 6}
    answer = service.client.post("/reward", json=reward_of(decision, 1.0) | lies)
    assert answer.json()["applied"] is True
    assert counters(service) == (0, 0, 0.0)
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
    decision = decided(service)
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
    first, second = decided(service), decided(service)
    service.client.post("/reward", json=reward_of(second, 1.0))
    answers = [service.client.post("/reward", json=calls.reward(value=value)).json() for value in (0.5, -1.0)]
    assert answers == [
        {"ok": True, "applied": True, "reward": 0.5, "decision_id": first["decision_id"]},
        {"ok": True, "applied": True, "reward": -1.0, "decision_id": None},
    ]
    assert counters(service) == (2, 3, 0.5)


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
    assert counters(service) == (0, 4, 2.0)


def test_decision_of_a_repeated_key(service: Service) -> None:
    """A repeated key is answered with the decision that the reward went to."""
    decision = decided(service)
    answers = [
        service.client.post("/reward", json=calls.reward(), headers={"Idempotency-Key": "a"}).json() for _ in range(2)
    ]
    assert [answer["decision_id"] for answer in answers] == [decision["decision_id"]] * 2


@pytest.mark.parametrize("names_the_decision", [True, False])
def test_repeated_key_after_a_correction(service: Service, *, names_the_decision: bool) -> None:
    """A repeated key is answered with the reward after its correction, and changes nothing."""
    decision = decided(service)
    body = reward_of(decision, 1.0) if names_the_decision else calls.reward()
    headers = {"Idempotency-Key": "a"}
    service.client.post("/reward", json=body, headers=headers)
    said = {"ok": True, "applied": False, "decision_id": decision["decision_id"]}
    service.client.put(path_of(decision), json={"reward": -0.5})
    assert service.client.post("/reward", json=body, headers=headers).json() == said | {"reward": -0.5}
    service.client.delete(path_of(decision))
    assert service.client.post("/reward", json=body, headers=headers).json() == said | {"reward": None}
    assert counters(service) == (1, 0, 0.0)


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
    assert counters(service) == (0, 1, 1.0)


def test_repeated_key_after_a_reset(service: Service) -> None:
    """A retry that arrives after a reset teaches the new model nothing."""
    headers = {"Idempotency-Key": "a"}
    service.client.post("/reward", json=calls.reward(), headers=headers)
    service.client.post("/reset/ada")
    assert service.client.post("/reward", json=calls.reward(), headers=headers).json()["applied"] is False
    assert counters(service) == (0, 0, 0.0)


@pytest.mark.parametrize("bad", [b"", b"a" * 201, b"a\tb", b"\x80"])
def test_invalid_idempotency_keys(service: Service, bad: bytes) -> None:
    """A key that is not 1 to 200 bytes without control characters is a 422 that names the header."""
    answer = service.client.post("/reward", json=calls.reward(), headers={b"Idempotency-Key": bad})
    assert answer.status_code == 422
    assert [problem["loc"] for problem in answer.json()["detail"]] == [["header", "idempotency-key"]]
    assert counters(service) == (0, 0, 0.0)


# Correcting


def path_of(decision: dict[str, Any], user_id: str = "ada") -> str:
    """Return the path at which the reward of a decision is corrected."""
    return f"/users/{user_id}/decisions/{decision['decision_id']}/reward"


def test_amending_a_reward(service: Service, db: Engine) -> None:
    """PUT replaces the reward: b changes, A stays, the ledger has both entries, and a repetition changes nothing."""
    decision = decided(service)
    service.client.post("/reward", json=reward_of(decision, 1.0))
    answers = [service.client.put(path_of(decision), json={"reward": -0.5}).json() for _ in range(2)]
    said = {"ok": True, "reward": -0.5, "decision_id": decision["decision_id"]}
    assert answers == [said | {"applied": True}, said | {"applied": False}]
    assert counters(service) == (1, 1, -0.5)
    with writing(db) as connection:
        x = connection.scalars(text("SELECT x FROM oo_ml.feature_history")).one()
        state = connection.execute(text("SELECT a, b, version FROM oo_ml.policy_state")).one()
    np.testing.assert_allclose(state.a, np.eye(5) + np.outer(x, x), atol=1e-15)
    np.testing.assert_allclose(state.b, -0.5 * x, atol=1e-15)
    assert state.version == 2
    assert [(entry["kind"], entry["reward"]) for entry in receipt(service, decision)["rewards"]] == [
        ("reward", 1.0),
        ("amend", -0.5),
    ]


def test_retracting_a_reward(service: Service, db: Engine) -> None:
    """DELETE restores A and b; a late repetition of the reward does not bring it back, a new PUT does."""
    decision = decided(service)
    service.client.post("/reward", json=reward_of(decision, 1.0))
    answers = [service.client.delete(path_of(decision)).json() for _ in range(2)]
    said = {"ok": True, "reward": None, "decision_id": decision["decision_id"]}
    assert answers == [said | {"applied": True}, said | {"applied": False}]
    assert counters(service) == (1, 0, 0.0)
    with writing(db) as connection:
        state = connection.execute(text("SELECT a, b FROM oo_ml.policy_state")).one()
    np.testing.assert_allclose(state.a, np.eye(5), atol=1e-15)
    np.testing.assert_allclose(state.b, np.zeros(5), atol=1e-15)
    assert service.client.post("/reward", json=reward_of(decision, 1.0)).json() == said | {"applied": False}
    assert receipt(service, decision)["reward_kind"] == "retract"
    assert service.client.put(path_of(decision), json={"reward": 0.25}).json()["applied"] is True
    assert counters(service) == (1, 1, 0.25)
    shown = receipt(service, decision)
    assert (shown["reward"], shown["reward_kind"]) == (0.25, None)
    assert [entry["kind"] for entry in shown["rewards"]] == ["reward", "retract", "reward"]


def test_correcting_a_decision_without_a_reward(service: Service) -> None:
    """PUT gives it a reward, which a later POST does not change; DELETE changes nothing."""
    first, second = decided(service), decided(service)
    assert service.client.delete(path_of(second)).json()["applied"] is False
    assert service.client.put(path_of(first), json={"reward": 0.0}).json()["applied"] is True
    late = service.client.post("/reward", json=reward_of(first, 1.0)).json()
    assert (late["applied"], late["reward"]) == (False, 0.0)
    assert service.client.post("/reward", json=reward_of(second, 1.0)).json()["applied"] is True
    assert counters(service) == (2, 2, 1.0)


def test_correcting_a_reward_without_a_decision_id(service: Service, db: Engine) -> None:
    """Retracting it uses the features it was learned with, which differ from those of the decision."""
    decision = decided(service)
    service.client.post("/reward", json=calls.reward(features={"hour_of_day": 3, "priority": 2}))
    service.client.delete(path_of(decision))
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
    decision = decided(service)
    service.client.post("/reward", json=reward_of(decision, 1.0))
    assert service.client.put(path_of(decision), json=body).status_code == 422
    assert receipt(service, decision)["reward"] == 1.0


# After a reset


def test_rewards_after_a_reset(service: Service, db: Engine) -> None:
    """Rewards and corrections of earlier decisions enter the old epoch's ledger and do not change the new model."""
    decision = decided(service)
    earlier = decided(service)
    service.client.post("/reward", json=reward_of(earlier, 1.0))
    service.client.post("/reset/ada")
    decided(service)
    assert service.client.post("/reward", json=reward_of(decision, 0.5)).json()["applied"] is True
    assert service.client.put(path_of(earlier), json={"reward": -1}).json()["applied"] is True
    assert service.client.delete(path_of(decision)).json()["applied"] is True
    assert counters(service) == (1, 0, 0.0)
    assert scalar(db, "SELECT version FROM oo_ml.policy_state WHERE policy = 'linucb-v1'") == 0
    assert scalar(db, "SELECT array_agg((epoch, version, kind)::text ORDER BY version) FROM oo_ml.reward_ledger") == [
        "(0,1,reward)",
        "(0,2,reward)",
        "(0,3,amend)",
        "(0,4,retract)",
    ]


# The receipt


def test_receipt(serve: Serve) -> None:
    """A receipt has the candidates with their scores and propensities, the draw, the state's version and the reward."""
    service = serve(exploration=0.2, alpha=2.0)
    service.client.post("/reward", json=calls.reward(value=0.5))
    decision = decided(service)
    shown = receipt(service, decision)
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


def test_rewards_in_a_receipt(service: Service) -> None:
    """A receipt lists each ledger entry with its kind, the reward before it, and its key."""
    decision = decided(service)
    service.client.post("/reward", json=reward_of(decision, 1.0), headers={"Idempotency-Key": "a"})
    service.client.put(path_of(decision), json={"reward": 0.5})
    service.client.delete(path_of(decision))
    rewards = receipt(service, decision)["rewards"]
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
    decision = decided(service)
    with writing(db) as connection:
        connection.execute(
            text("""
                UPDATE oo_ml.feature_history
                SET exploration = NULL, alpha = NULL, exploit = NULL, explore = NULL, propensities = NULL
            """)
        )
    shown = receipt(service, decision)
    assert (shown["exploration"], shown["alpha"], shown["propensity"]) == (None, None, 1.0)
    assert [candidate["propensity"] for candidate in shown["candidates"]] == [None, None]


def test_exploration_of_linucb(serve: Serve) -> None:
    """With OO_ML_EXPLORATION=1 every decision is drawn, marked as exploring, and has its propensity."""
    service = serve(exploration=1.0)
    seen: set[str] = set()
    for _ in draws({"t1", "t2"}, seen, rarest=0.5):
        answer = decided(service)
        seen.add(answer["tip_id"])
        assert answer["propensity"] == 0.5
        assert receipt(service, answer)["exploring"]
    assert seen == {"t1", "t2"}


def test_receipts_of_users_with_awkward_ids(service: Service) -> None:
    """A slash, a percent sign and an id that looks like a path are parts of the id."""
    for user_id in ("a/b", "100%", "x/decisions/y/reward", "żółw ☃"):
        decision = decided(service, user_id)
        encoded = "".join(f"%{byte:02X}" for byte in user_id.encode())
        service.client.put(path_of(decision, encoded), json={"reward": 1})
        shown = receipt(service, decision, encoded)
        assert (shown["user_id"], shown["reward"]) == (user_id, 1.0)


def test_ids_made_by_a_library(service: Service) -> None:
    """UUIDv7s of a client's library are accepted, and the service makes UUIDv7s too."""
    made = service.client.post("/score", json=calls.score(decision_id=str(uuid_utils.uuid7()))).json()
    here = service.client.post("/score", json=calls.score()).json()
    assert uuid.UUID(made["decision_id"]).version == uuid.UUID(here["decision_id"]).version == 7
