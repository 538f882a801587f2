"""Decisions: a decision_id names one decision of one user, and repeated requests get the stored answer."""

import uuid

import pytest
import uuid_utils.compat as uuid_utils
from sqlalchemy import Engine, text

from tests import calls
from tests.api.decisions.decisions import make_decision, new_id, read_counters, read_receipt
from tests.chance import draws
from tests.conftest import Serve
from tests.gates import scalar
from tests.serving import Service
from tests.sessions import writing

DAY = 86_400_000


def test_repeated_decision(service: Service) -> None:
    """A repeated decision gets the stored answer and counts as one pull, even if the model has learned since."""
    body = calls.score(decision_id=new_id())
    first = service.client.post("/score", json=body)
    assert first.json()["decision_id"] == body["decision_id"]
    service.client.post("/reward", json=calls.reward(value=-1))
    assert service.client.post("/score", json=calls.score()).json()["tip_id"] != first.json()["tip_id"]
    again = service.client.post("/score", json=body)
    assert (again.status_code, again.content) == (200, first.content)
    assert read_counters(service)[0] == 2


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
    assert read_counters(service)[0] == 2
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
    assert (read_counters(service, "ada")[0], read_counters(service, "ben")[0]) == (1, 1)


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
    assert read_counters(service)[0] == 0


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
    assert read_counters(service)[0] == 2


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


def test_exploration_of_linucb(serve: Serve) -> None:
    """With OO_ML_EXPLORATION=1 every decision is drawn, marked as exploring, and has its propensity."""
    service = serve(exploration=1.0)
    seen: set[str] = set()
    for _ in draws({"t1", "t2"}, seen, rarest=0.5):
        answer = make_decision(service)
        seen.add(answer["tip_id"])
        assert answer["propensity"] == 0.5
        assert read_receipt(service, answer)["exploring"]
    assert seen == {"t1", "t2"}


def test_ids_made_by_a_library(service: Service) -> None:
    """UUIDv7s of a client's library are accepted, and the service makes UUIDv7s too."""
    made = service.client.post("/score", json=calls.score(decision_id=str(uuid_utils.uuid7()))).json()
    here = service.client.post("/score", json=calls.score()).json()
    assert uuid.UUID(made["decision_id"]).version == uuid.UUID(here["decision_id"]).version == 7
