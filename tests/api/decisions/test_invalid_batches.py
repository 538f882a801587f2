"""Invalid batches and items: each item has the error of its single call; the size of a batch has limits."""

import json

import pytest
from sqlalchemy import Engine

from tests import calls
from tests.api.decisions.batches import (
    REWARD,
    SCORE,
    Item,
    id_of,
    read_codes,
    send,
)
from tests.api.test_bad_input import BAD_REWARDS, BAD_SCORES, ECHO, NO_OBJECTS
from tests.conftest import Serve
from tests.gates import scalar
from tests.serving import Service


@pytest.mark.parametrize(
    ("path", "bad", "good"), [(SCORE, BAD_SCORES, calls.score()), (REWARD, BAD_REWARDS, calls.reward())]
)
def test_invalid_items(service: Service, path: str, bad: dict[str, object], good: Item) -> None:
    """An invalid item gets the error of its single call, without the value, and the other items succeed."""
    kinds = bad | {
        "no object": 5,
        "an emoji cut in half": good | {"tip_id": "\ud83d", "context": "\ud83d"},
        "a surrogate in an unknown field": good | {"nothing": {"\udc00": 1}},
        "no UUID": good | {"decision_id": ECHO},
        "too deep": good | {"tip_id": json.loads("[" * 300 + "]" * 300), "context": json.loads("[" * 300 + "]" * 300)},
    }
    response = service.client.post(
        path, content=json.dumps({"items": [item for one in kinds.values() for item in (one, good)]})
    )
    assert ECHO not in response.text
    outcomes = response.json()["outcomes"]
    assert read_codes(outcomes[1::2]) == [(200, "")] * len(kinds)
    for kind, item, outcome in zip(kinds, kinds.values(), outcomes[::2], strict=True):
        same_id = {"X-Request-ID": response.headers["X-Request-ID"]}
        alone = service.client.post(path.removesuffix("/batch"), content=json.dumps(item), headers=same_id)
        assert alone.status_code == 422
        assert outcome == {"kind": "refused", "status": 422, "error": alone.json()}, kind


def test_policy_and_key_of_an_item(service: Service) -> None:
    """The fields policy and idempotency_key, which single calls lack, are validated too."""
    for path, good in ((SCORE, calls.score()), (REWARD, calls.reward())):
        wrong = [good | {"policy": policy} for policy in ("", None, 1, f"{ECHO}\n")]
        outcomes = send(service, path, [*wrong, good])
        assert read_codes(outcomes) == [(422, "invalid")] * 4 + [(200, "")]
        assert [outcome["error"]["detail"][0]["loc"] for outcome in outcomes[:4]] == [["body", "policy"]] * 4
        assert ECHO not in str(outcomes)
    keys = ["", "a" * 201, "é" * 101, "a\tb", "\0", "\x80", 7]
    outcomes = send(service, REWARD, [calls.reward(idempotency_key=key) for key in [*keys, None, "é" * 100]])
    assert read_codes(outcomes) == [(422, "invalid")] * len(keys) + [(200, "")] * 2
    for outcome in outcomes[: len(keys)]:
        assert [problem["loc"] for problem in outcome["error"]["detail"]] == [["body", "idempotency_key"]]


@pytest.mark.parametrize("path", [SCORE, REWARD])
def test_invalid_batches(service: Service, db: Engine, path: str, subtests: pytest.Subtests) -> None:
    """A body that is not JSON, lacks items or has more than 1,000 is a 422, and no item of it is carried out."""
    good = json.dumps(calls.score() | calls.reward()).encode()
    many = b",".join([good] * 1001)
    bodies = NO_OBJECTS | {
        "no items": b"{}",
        "items null": b'{"items": null}',
        "items an object": b'{"items": {"0": %b}}' % good,
        "an item alone": good,
        "cut off": b'{"items": [%b, ' % good,
        "after it something else": b'{"items": [%b]} x' % good,
        "in UTF-16": f'{{"items": [{good.decode()}]}}'.encode("utf-16"),
        "an item not UTF-8": b'{"items": [%b, "\xff"]}' % good,
        "an item of great depth": b'{"items": [%b, %b]}' % (good, b"[" * 100_000 + b"]" * 100_000),
        "an item with a long number": b'{"items": [%b, %b]}' % (good, b"1" * 100_000),
        "more than a thousand": b'{"items": [%b]}' % many,
        "more than a thousand, the first of them bad": b'{"items": [{}, %b]}' % many,
        "more than a thousand, a surrogate among them": b'{"items": ["\\ud800", %b]}' % many,
    }
    for kind, body in bodies.items():
        with subtests.test(kind):
            response = service.client.post(path, content=body)
            assert (response.status_code, response.json()["code"]) == (422, "invalid")
            problems = response.json()["detail"]
            assert problems[-1]["loc"] in (["body"], ["body", "items"])
            # What is not known of a batch is told besides.
            assert {problem["type"] for problem in problems[:-1]} <= {"extra_forbidden"}
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 0


@pytest.mark.parametrize(("path", "item"), [(SCORE, calls.score()), (REWARD, calls.reward())])
def test_duplicate_fields(service: Service, path: str, item: Item) -> None:
    """If a field occurs twice, the last one counts, as in a single call."""
    twice = json.dumps(item).replace("{", '{"user_id": 7, ', 1)
    assert service.client.post(path.removesuffix("/batch"), content=twice).status_code == 200
    for items, expected in [(twice, [200]), (f"{twice}, 5", [200, 422])]:
        body = f'{{"items": [5], "items": [{items}]}}'
        outcomes = service.client.post(path, content=body).json()["outcomes"]
        assert [outcome["status"] for outcome in outcomes] == expected


def test_size_of_errors(service: Service) -> None:
    """For each item only the first invalid candidate is reported, so that an answer has a bounded size."""
    bad = {"user_id": "", "candidates": [{}] * 300, "context": 7, "decision_id": 7}
    response = service.client.post(SCORE, content=json.dumps({"items": [bad] * 1000}))
    outcomes = response.json()["outcomes"]
    assert read_codes(outcomes) == [(422, "invalid")] * 1000
    assert [problem["loc"] for problem in outcomes[0]["error"]["detail"]] == [
        ["body", "user_id"],
        ["body", "candidates", 0, "id"],
        ["body", "candidates", 0, "source"],
        ["body", "context"],
        ["body", "decision_id"],
    ]


# How much


def test_largest_batch(service: Service, db: Engine) -> None:
    """1,000 items with ten candidates each fit into the default OO_ML_MAX_BODY_BYTES."""
    candidates = [
        {
            "id": f"todoist-8203472{number}",
            "content": "Call the dentist about next Tuesday",
            "source": "todoist",
            "features": {"is_overdue": False, "task_age_days": 3.25, "priority": 3},
        }
        for number in range(10)
    ]
    items = [
        calls.score(f"user-{number % 700}", candidates=candidates, decision_id=id_of(number)) for number in range(1000)
    ]
    assert read_codes(send(service, SCORE, items)) == [(200, "")] * 1000
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 1000
    reactions = [calls.reward(f"user-{number % 700}", decision_id=id_of(number), tip_id="x") for number in range(1000)]
    assert read_codes(send(service, REWARD, reactions)) == [(409, "other_tip")] * 1000


@pytest.mark.parametrize(("path", "item"), [(SCORE, calls.score()), (REWARD, calls.reward())])
def test_body_over_the_limit(serve: Serve, db: Engine, path: str, item: Item) -> None:
    """A batch over OO_ML_MAX_BODY_BYTES is a 413, and no item of it is carried out."""
    service = serve(max_body_bytes=1000)
    response = service.client.post(path, json={"items": [item] * 10})
    assert response.status_code == 413
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 0
