"""Invalid input: refused with its place and the reason, without its value, and without effects."""

import json
from itertools import product
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from tests import calls
from tests.conftest import Serve
from tests.gates import scalar
from tests.serving import Service
from tests.superuser import tamper

ECHO = "do-not-echo-me"


def _score_call(**features: object) -> dict[str, Any]:
    return calls.score(candidates=[{"id": "t1", "content": "x", "source": "s", "features": features}])


BAD_SCORES: dict[str, dict[str, Any]] = {
    "no user": {key: value for key, value in calls.score().items() if key != "user_id"},
    "user not text": {**calls.score(), "user_id": 7},
    "user empty": calls.score(user_id=""),
    "user too long": calls.score(user_id="x" * 201),
    "user too long in bytes": calls.score(user_id="é" * 101),
    "user with NUL": calls.score(user_id=f"{ECHO}\0"),
    "user with newline": calls.score(user_id=f"{ECHO}\n"),
    "user with surrogate": calls.score(user_id=f"{ECHO}\ud800"),
    "user that no URL can name": calls.score(user_id=".."),
    "candidates not a list": calls.score(candidates={"id": ECHO}),
    "too many candidates": calls.score(candidates=[{"id": "t", "content": "x", "source": "s"}] * 1001),
    "tip id with control character": calls.score(candidates=[{"id": f"{ECHO}\x7f", "content": "x", "source": "s"}]),
    "content with NUL": calls.score(candidates=[{"id": "t", "content": f"{ECHO}\0", "source": "s"}]),
    "no source": calls.score(candidates=[{"id": "t", "content": "x"}]),
    "hour out of range": calls.score(context={"hour_of_day": 24}),
    "hour a fraction": calls.score(context={"hour_of_day": 9.5}),
    "hour as text": calls.score(context={"hour_of_day": "9"}),
    "weekday out of range": calls.score(context={"day_of_week": 7}),
    "overdue as number": _score_call(is_overdue=1),
    "overdue as text": _score_call(is_overdue="true"),
    "age as truth": _score_call(task_age_days=True),
    "age as text": _score_call(task_age_days=ECHO),
    "age not a number": _score_call(task_age_days=float("nan")),
    "age infinite": _score_call(task_age_days=float("inf")),
    "age beyond bigint": _score_call(task_age_days=2**63),
    # As a double it equals the limit.
    "age below bigint": _score_call(task_age_days=-(2**63) - 1),
    "priority zero": _score_call(priority=0),
    "priority five": _score_call(priority=5),
    "priority beyond bigint": _score_call(priority=10**400),
}


def test_invalid_scores(service: Service, db: Engine, subtests: pytest.Subtests) -> None:
    """An invalid /score is a 422 for both policies and creates no state."""
    for (name, body), path in product(BAD_SCORES.items(), ("/score", "/score/egreedy")):
        with subtests.test(f"{path}: {name}"):
            _assert_refused(service.client.post(path, content=json.dumps(body)))
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 0


BAD_REWARDS: dict[str, dict[str, Any]] = {
    "no reward": {key: value for key, value in calls.reward().items() if key != "reward"},
    "too much": calls.reward(value=1.0000001),
    "too little": calls.reward(value=-2),
    "not a number": calls.reward(value=float("nan")),
    "infinite": calls.reward(value=float("-inf")),
    "as truth": calls.reward(value=True),
    "as text": calls.reward(reward="1"),
    "null": calls.reward(reward=None),
    "no features": {key: value for key, value in calls.reward().items() if key != "features"},
    "hour out of range": calls.reward(features={"hour_of_day": -1}),
    "weekday out of range": calls.reward(day_of_week=-1),
    "tip id empty": calls.reward(tip_id=""),
}


def test_invalid_rewards(service: Service, db: Engine, subtests: pytest.Subtests) -> None:
    """An invalid /reward is a 422 for both policies and is not learned."""
    for (name, body), path in product(BAD_REWARDS.items(), ("/reward", "/reward/egreedy")):
        with subtests.test(f"{path}: {name}"):
            _assert_refused(service.client.post(path, content=json.dumps(body)))
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 0


NO_OBJECTS = {
    "empty": b"",
    "cut off": b"{",
    "null": b"null",
    "a list": b"[]",
    "text": b'"text"',
    "not UTF-8": b"\xff\xfe",
    "a surrogate in UTF-8": b'{"user_id": "\xed\xa0\x80"}',
    "a deep list": b"[" * 100_000,
    "a deep object": b'{"a":' * 100_000,
    "a long number": b"1" * 100_000,
}


def test_invalid_json(service: Service, subtests: pytest.Subtests) -> None:
    """A body that is not a JSON object is a 422."""
    for (name, content), path in product(NO_OBJECTS.items(), ("/score", "/reward", "/generate", "/prompts")):
        with subtests.test(f"{path}: {name}"):
            _assert_refused(service.client.post(path, content=content))


def test_values_in_the_context_of_generate(service: Service, subtests: pytest.Subtests) -> None:
    """NaN, infinity, lone surrogates and NUL are refused at any depth, because the prompt goes to the gateway."""
    for value in ("NaN", "-Infinity", "1e999", r'"\ud800"', r'"\u0000"', '{"deep": [NaN]}', r'[{"\u0000": 1}]'):
        for context in (f'{{"tasks": [{{"title": {value}}}]}}', f'{{"extra": {{"mood": {value}}}}}'):
            with subtests.test(context):
                _assert_refused(service.client.post("/generate", content=f'{{"user_id": "ada", "context": {context}}}'))


def test_no_candidates(service: Service) -> None:
    """Without candidates the detail is a sentence instead of a list, as the contract has it."""
    answer = service.client.post("/score", json=calls.score(candidates=[]))
    assert (answer.status_code, answer.json()["detail"]) == (422, "No candidates")


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
def test_body_over_the_limit(serve: Serve, announced: bool) -> None:
    """The size of a body is limited with and without Content-Length."""
    service = serve(max_body_bytes=1000)
    body = json.dumps(calls.score()).encode()
    assert service.client.post("/score", content=body).status_code == 200
    large = body + b" " * 1000
    content = large if announced else (large[i : i + 100] for i in range(0, len(large), 100))
    assert service.client.post("/score", content=content).status_code == 413


@pytest.mark.parametrize(
    ("path", "status", "code"), [("/nowhere", 404, "not_found"), ("/score", 405, "method_not_allowed")]
)
def test_unknown_path_and_method(service: Service, path: str, status: int, code: str) -> None:
    """404 and 405 are JSON like other errors."""
    answer = service.client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/json"


def test_broken_constraint(service: Service, db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the constraint, the answer does not, and neither names the user."""
    tamper(db, "ALTER TABLE oo_ml.policy_state ADD CHECK (user_id <> 'eve') NOT VALID")
    answer = service.client.post("/score", json=calls.score("eve"))
    assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
    assert "policy_state" not in answer.text
    assert "policy_state" in caplog.text
    assert "eve" not in caplog.text.replace("never", "")
    assert service.client.post("/score", json=calls.score("adam")).status_code == 200


def _assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "invalid"
    for problem in answer.json()["detail"]:
        assert problem.keys() == {"loc", "msg", "type"}
        assert problem["loc"][0] == "body"
    assert ECHO not in answer.text
