"""Ids of decisions: any id that is not a UUIDv7 is one error, which says how to make one."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uuid_utils.compat as uuid_utils

from tests import calls
from tests.serving import Service

V4 = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"
MALFORMED: dict[str, Any] = {
    "version 4": V4,
    "version 1": "6c84fb90-12c4-11e1-840d-7b25c5ee775a",
    "another variant": "01936f3e-0000-7000-0000-000000000000",
    "nil": str(uuid.UUID(int=0)),
    "no UUID": "do-not-echo-me",
    "empty": "",
}
NO_TEXT: dict[str, Any] = {"a number": 7, "a list": [V4], "an object": {V4: V4}, "true": True}


def bodies(decision_id: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each call whose body may name a decision, without features, which it then does not need."""
    reward = {"user_id": "ada", "tip_id": "t1", "reward": 1, "decision_id": decision_id}
    for suffix in ("", "/egreedy", "/batch"):
        yield f"/score{suffix}", calls.score(decision_id=decision_id)
        yield f"/reward{suffix}", reward
    yield "/reward", reward | {"features": {"priority": 4}}


def answers(service: Service, decision_id: object) -> Iterator[tuple[dict[str, Any], list[str], httpx.Response]]:
    """Send it to every call that takes one; yield the problem told, where it should be, and the whole answer."""
    for path, body in bodies(decision_id):
        answer = service.client.post(path, json={"items": [body]} if "batch" in path else body)
        told = answer.json()["outcomes"][0]["error"] if "batch" in path else answer.json()
        yield told, ["body", "decision_id"], answer
    if isinstance(decision_id, str) and decision_id:
        decision = f"/users/ada/decisions/{decision_id}"
        for method, path in (("GET", decision), ("PUT", f"{decision}/reward"), ("DELETE", f"{decision}/reward")):
            answer = service.client.request(method, path, json={"reward": 1})
            assert answer.status_code == 422
            yield answer.json(), ["path", "decision_id"], answer


@pytest.mark.parametrize("decision_id", (MALFORMED | NO_TEXT).values(), ids=MALFORMED | NO_TEXT)
def test_error_for_an_invalid_id(service: Service, decision_id: object) -> None:
    """An invalid id is one error, which explains how to make one and repeats neither the id nor other fields."""
    for told, place, answer in answers(service, decision_id):
        assert told["code"] == "invalid"
        [problem] = told["detail"]
        assert (problem["loc"], problem["type"]) == (place, "uuid7")
        for help_ in ("UUIDv7", "crypto.randomUUID()", 'import { v7 } from "uuid"', "uuid.uuid7()", "uuid-utils"):
            assert help_ in problem["msg"]
        assert V4 not in answer.text
        assert "echo" not in answer.text


def test_advice_of_the_error(service: Service) -> None:
    """An id made with the Python that the error shows is accepted."""
    decision_id = str(uuid_utils.uuid7())
    made = service.client.post("/score", json=calls.score(decision_id=decision_id))
    assert (made.status_code, made.json()["decision_id"]) == (200, decision_id)


def test_required_features(service: Service) -> None:
    """A reward whose decision_id is absent or null needs features."""
    for named in ({}, {"decision_id": None}):
        answer = service.client.post("/reward", json={"user_id": "ada", "tip_id": "t1", "reward": 1} | named)
        assert [problem["loc"] for problem in answer.json()["detail"]] == [["body", "features"]]
