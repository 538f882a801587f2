"""Batches: each item has the outcome of its single call, and all items are one transaction."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import permutations, product
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests import calls
from tests.api.test_bad_input import BAD_REWARDS, BAD_SCORES, ECHO, NO_OBJECTS
from tests.conftest import Serve, make_settings
from tests.faults.proxy import proxied
from tests.gates import holding_state, scalar
from tests.migrations.rows import uuid7
from tests.rows import assert_folded, everything
from tests.serving import Service, serving
from tests.sessions import writing

SCORE, REWARD = "/score/batch", "/reward/batch"
POLICIES = (LINUCB, EPSILON_GREEDY)
NOW = datetime.now(UTC)
# Both policies explore: what is drawn depends on a decision's name alone.
ADVENTUROUS = {"epsilon": 0.3, "exploration": 0.3}

Item = dict[str, Any]


def name(number: int) -> str:
    """A decision_id of about now."""
    return str(uuid7(NOW, number))


def send(service: Service, path: str, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Send a batch; return its outcomes."""
    response = service.client.post(path, content=json.dumps({"items": items}))
    assert response.status_code == 200, response.text
    outcomes: list[dict[str, Any]] = response.json()["outcomes"]
    return outcomes


def send_alone(service: Service, path: str, item: Item) -> dict[str, Any]:
    """Send an item as the single call that it stands for; return the outcome that it should have had in a batch."""
    body = {field: value for field, value in item.items() if field not in {"policy", "idempotency_key"}}
    door = path.removesuffix("/batch") + ("/egreedy" if item.get("policy") == EPSILON_GREEDY else "")
    headers = {"Idempotency-Key": item["idempotency_key"]} if "idempotency_key" in item else {}
    response = service.client.post(door, content=json.dumps(body), headers=headers)
    if response.status_code == 200:
        return {"kind": "done", "status": 200, "body": response.json()}
    return {"kind": "refused", "status": response.status_code, "error": response.json()}


def send_in_a_batch(service: Service, path: str, item: Item) -> dict[str, Any]:
    """Send a batch of one; return its outcome."""
    [outcome] = send(service, path, [item])
    return outcome


def send_beside_a_bad_one(service: Service, path: str, item: Item) -> dict[str, Any]:
    """Send it with a neighbour over which the batch can't be read in one go; return its outcome."""
    outcome, bad = send(service, path, [item, {"user_id": "\ud800"}])
    assert bad["status"] == 422
    return outcome


DOORS = {"alone": send_alone, "in a batch": send_in_a_batch, "beside a bad one": send_beside_a_bad_one}


def codes(outcomes: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    """The statuses, and the codes of what was refused."""
    return [(outcome["status"], outcome.get("error", {}).get("code", "")) for outcome in outcomes]


def timeless(db: Engine) -> list[dict[str, Any]]:
    """Return the rows of users without the times at which they were written."""
    return [
        {column: "some time" if isinstance(value, datetime) else value for column, value in row.items()}
        for row in everything(db)
        if "user_id" in row
    ]


# What comes of the items


def test_order_of_outcomes(service: Service, db: Engine) -> None:
    """Outcomes have the order of the items; an item without a policy is decided by linucb-v1."""
    rng = random.Random(1)  # noqa: S311
    items = [
        calls.score(f"user {rng.randrange(10)}", decision_id=name(number), policy=rng.choice(POLICIES))
        for number in range(100)
    ]
    del items[0]["policy"]
    outcomes = send(service, SCORE, items)
    assert [outcome["status"] for outcome in outcomes] == [200] * 100
    assert [(outcome["body"]["decision_id"], outcome["body"]["policy"]) for outcome in outcomes] == [
        (item["decision_id"], item.get("policy", LINUCB)) for item in items
    ]
    with writing(db) as connection:
        stored = connection.execute(
            text("SELECT user_id, decision_id::text, policy, answer FROM oo_ml.feature_history ORDER BY position")
        ).all()
    assert stored == [
        (item["user_id"], item["decision_id"], item.get("policy", LINUCB), outcome["body"])
        for item, outcome in zip(items, outcomes, strict=True)
    ]


def test_ids_that_the_service_makes(service: Service) -> None:
    """Each decision without a decision_id gets a UUIDv7 of its own."""
    outcomes = send(service, SCORE, [calls.score()] * 10)
    names = [UUID(outcome["body"]["decision_id"]) for outcome in outcomes]
    assert len(set(names)) == 10
    assert {made.version for made in names} == {7}


def test_one_transaction(service: Service, db: Engine) -> None:
    """All rows of a batch are written by one transaction."""
    send(service, SCORE, [calls.score(user_id) for user_id in ("ada", "ben", "cleo")])
    assert scalar(db, "SELECT (count(*), count(DISTINCT xmin::text))::text FROM oo_ml.feature_history") == "(3,1)"
    send(service, REWARD, [calls.reward(user_id) for user_id in ("ada", "ben", "cleo")])
    assert scalar(db, "SELECT (count(*), count(DISTINCT xmin::text))::text FROM oo_ml.reward_ledger") == "(3,1)"


def test_learning_before_the_next_batch(service: Service) -> None:
    """The next batch has learned from a reward, for its user and its policy alone."""
    send(service, REWARD, [calls.reward("ada", value=-1, policy=EPSILON_GREEDY), calls.reward("ben", value=-1)])
    asked = [calls.score(user_id, policy=policy) for user_id in ("ada", "ben") for policy in POLICIES]
    assert [outcome["body"]["tip_id"] for outcome in send(service, SCORE, asked)] == ["t1", "t2", "t2", "t1"]


def test_order_of_rewards(service: Service) -> None:
    """A user's rewards apply in order: the first of a decision counts; without an id it goes to the latest open one."""
    first, second = (
        outcome["body"]["decision_id"]
        for outcome in send(service, SCORE, [calls.score(decision_id=name(number)) for number in range(2)])
    )
    outcomes = send(
        service,
        REWARD,
        [
            calls.reward(value=0.5, decision_id=second),
            calls.reward(value=-1.0, decision_id=second),
            calls.reward(value=1.0),
            calls.reward(value=0.25),
        ],
    )
    assert [outcome["body"] for outcome in outcomes] == [
        {"ok": True, "applied": True, "reward": 0.5, "decision_id": second},
        {"ok": True, "applied": False, "reward": 0.5, "decision_id": second},
        {"ok": True, "applied": True, "reward": 1.0, "decision_id": first},
        {"ok": True, "applied": True, "reward": 0.25, "decision_id": None},
    ]


def test_empty_batch() -> None:
    """An empty batch is answered with no outcomes, and needs no database."""
    with serving(make_settings(), "postgresql://u@127.0.0.1:1/d") as service:
        for path in (SCORE, REWARD):
            assert send(service, path, []) == []


# The same as one by one


def test_batches_equal_single_calls(
    serve: Serve, db: Engine, other_database_url: str, other_db: Engine, subtests: pytest.Subtests
) -> None:
    """A batch has the outcomes and rows of its items sent one by one, refused and repeated items included."""
    service = serve(**ADVENTUROUS)
    said: set[tuple[int, str]] = set()
    with serving(make_settings(**ADVENTUROUS), other_database_url) as other:
        for number, (path, items) in enumerate(_story(random.Random(2))):  # noqa: S311
            with subtests.test(f"{number}: {path}"):
                outcomes = send(service, path, items)
                assert outcomes == [send_alone(other, path, item) for item in items]
                assert timeless(db) == timeless(other_db)
                said |= set(codes(outcomes))
    assert said == {
        (200, ""),
        (404, "unknown_decision"),
        (409, "decision_exists"),
        (409, "idempotency_key_reused"),
        (409, "other_tip"),
        (422, "invalid"),
        (422, "no_candidates"),
    }
    assert_folded(db)


def _story(rng: random.Random) -> Iterator[tuple[str, list[Item]]]:
    """Yield batches of three users' calls; some are invalid, some are repeated in the same batch or a later one."""
    for start in (0, 40, 80):
        asked = [
            calls.score(
                rng.choice("abc"),
                decision_id=name(rng.randrange(start, start + 60)),
                policy=rng.choice(POLICIES),
                context={"hour_of_day": rng.choice((9, 9, 9, 9, 21, 24))},
            )
            for _ in range(40)
        ]
        yield SCORE, [*asked, calls.score(candidates=[]), *rng.sample(asked, 10)]
        yield REWARD, [_reaction(rng, start + 60) for _ in range(60)]


def _reaction(rng: random.Random, names: int) -> Item:
    item = calls.reward(
        rng.choice("abc"),
        value=rng.choice((1, 0.5, 0, -0.5, -1, 2)),
        tip_id=rng.choice(("t1", "t2")),
        policy=rng.choice(POLICIES),
    )
    if rng.random() < 0.5:
        item["decision_id"] = name(rng.randrange(names))
    if rng.random() < 0.3:
        item["idempotency_key"] = rng.choice("abcdef")
    return item


@pytest.mark.parametrize(("first", "second"), list(permutations(DOORS, 2)))
def test_repeated_decision_across_calls(service: Service, first: str, second: str) -> None:
    """A decision repeated in a batch or alone gets the stored answer and counts once, whichever call made it."""
    for policy, other in zip(POLICIES, reversed(POLICIES), strict=True):
        item = calls.score(policy, decision_id=name(0), policy=policy)
        made = DOORS[first](service, SCORE, item)
        assert made["body"]["policy"] == policy
        service.client.post("/reward", json=calls.reward(policy, value=-1))
        assert DOORS[second](service, SCORE, item) == made
        for door in (first, second):
            assert codes([DOORS[door](service, SCORE, item | {"policy": other})]) == [(409, "decision_exists")]
    assert service.client.get(f"/stats/{LINUCB}").json()["pulls"] == 1


@pytest.mark.parametrize(("first", "second"), list(permutations(DOORS, 2)))
def test_repeated_idempotency_key_across_calls(service: Service, first: str, second: str) -> None:
    """A key counts once as a header and as a field of an item; with another body or policy it is a 409."""
    [decided] = send(service, SCORE, [calls.score("cleo")])
    items: list[tuple[str, str, Item]] = [
        (LINUCB, EPSILON_GREEDY, calls.reward()),
        (EPSILON_GREEDY, LINUCB, calls.reward("ben")),
        (LINUCB, EPSILON_GREEDY, calls.reward("cleo", decision_id=decided["body"]["decision_id"])),
    ]
    for policy, other, item in items:
        named = item | {"policy": policy, "idempotency_key": "a"}
        made = DOORS[first](service, REWARD, named)
        assert made["body"]["applied"] is True
        assert DOORS[second](service, REWARD, named) == made | {"body": made["body"] | {"applied": False}}
        changes: list[Item] = [{"reward": 0.5}, {"policy": other}]
        for door, change in product((first, second), changes):
            assert codes([DOORS[door](service, REWARD, named | change)]) == [(409, "idempotency_key_reused")]


def test_repetition_within_a_batch(service: Service) -> None:
    """A decision_id or key repeated within a batch gets the first answer, or a 409 if the item differs."""
    item = calls.score(decision_id=name(0))
    other = calls.score(decision_id=name(0), context={"hour_of_day": 10})
    outcomes = send(service, SCORE, [item, other, item])
    assert codes(outcomes) == [(200, ""), (409, "decision_exists"), (200, "")]
    assert outcomes[2] == outcomes[0]
    named = calls.reward(idempotency_key="a")
    outcomes = send(service, REWARD, [named, named | {"tip_id": "t2"}, named])
    assert codes(outcomes) == [(200, ""), (409, "idempotency_key_reused"), (200, "")]
    assert [outcomes[place]["body"]["applied"] for place in (0, 2)] == [True, False]
    stats = service.client.get("/stats/ada").json()
    assert (stats["pulls"], stats["reward_count"]) == (1, 1)


def test_item_past_retention(service: Service, db: Engine) -> None:
    """An id of a month past retention is refused, and the other items are decided."""
    with writing(db) as connection:
        connection.execute(
            text("UPDATE oo_ml.upkeep SET done_until = now() - interval '10 days' WHERE task = 'retention'")
        )
    old = str(uuid7(NOW - timedelta(days=20)))
    outcomes = send(service, SCORE, [calls.score(), calls.score(decision_id=old), calls.score()])
    assert codes(outcomes) == [(200, ""), (422, "decision_too_old"), (200, "")]


# What is wrong


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
    assert codes(outcomes[1::2]) == [(200, "")] * len(kinds)
    for kind, item, outcome in zip(kinds, kinds.values(), outcomes[::2], strict=True):
        alone = service.client.post(path.removesuffix("/batch"), content=json.dumps(item))
        assert alone.status_code == 422
        assert outcome == {"kind": "refused", "status": 422, "error": alone.json()}, kind


def test_policy_and_key_of_an_item(service: Service) -> None:
    """The fields policy and idempotency_key, which single calls lack, are validated too."""
    for path, good in ((SCORE, calls.score()), (REWARD, calls.reward())):
        wrong = [good | {"policy": policy} for policy in (ECHO, "", None, 1)]
        outcomes = send(service, path, [*wrong, good])
        assert codes(outcomes) == [(422, "invalid")] * 4 + [(200, "")]
        assert [outcome["error"]["detail"][0]["loc"] for outcome in outcomes[:4]] == [["body", "policy"]] * 4
        assert ECHO not in str(outcomes)
    keys = ["", "a" * 201, "é" * 101, "a\tb", "\0", "\x80", 7]
    outcomes = send(service, REWARD, [calls.reward(idempotency_key=key) for key in [*keys, None, "é" * 100]])
    assert codes(outcomes) == [(422, "invalid")] * len(keys) + [(200, "")] * 2
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
    assert codes(outcomes) == [(422, "invalid")] * 1000
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
        calls.score(f"user-{number % 700}", candidates=candidates, decision_id=name(number)) for number in range(1000)
    ]
    assert codes(send(service, SCORE, items)) == [(200, "")] * 1000
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 1000
    reactions = [calls.reward(f"user-{number % 700}", decision_id=name(number), tip_id="x") for number in range(1000)]
    assert codes(send(service, REWARD, reactions)) == [(409, "other_tip")] * 1000


@pytest.mark.parametrize(("path", "item"), [(SCORE, calls.score()), (REWARD, calls.reward())])
def test_body_over_the_limit(serve: Serve, db: Engine, path: str, item: Item) -> None:
    """A batch over OO_ML_MAX_BODY_BYTES is a 413, and no item of it is carried out."""
    service = serve(max_body_bytes=1000)
    response = service.client.post(path, json={"items": [item] * 10})
    assert response.status_code == 413
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 0


# Many at once, and when the database can't


@pytest.mark.parametrize("known", [True, False], ids=["known users", "new users"])
def test_concurrent_batches(serve: Serve, db: Engine, known: bool) -> None:
    """Concurrent batches with the same users in different orders, sent twice to two services, count each item once."""
    services = [serve(), serve()]
    users = [f"user {number}" for number in range(30)]
    if known:
        send(services[0], REWARD, [calls.reward(one, value=0, policy=policy) for one in users for policy in POLICIES])

    def both(number: int) -> list[tuple[int, str]]:
        rng = random.Random(number)  # noqa: S311
        order = rng.sample(users, len(users))
        decisions = [
            calls.score(user_id, decision_id=name(number), policy=POLICIES[place % 2])
            for place, user_id in enumerate(order)
        ]
        rewards = [
            calls.reward(user_id, value=number / 64, policy=POLICIES[place % 2], idempotency_key=f"key {number}")
            for place, user_id in enumerate(reversed(order))
        ]
        chosen = services[number % 2]
        # Twice, as by a client that missed the answer.
        return [
            code for path, items in ((SCORE, decisions), (REWARD, rewards)) * 2 for code in _codes(chosen, path, items)
        ]

    with ThreadPoolExecutor(16) as clients:
        outcomes = list(clients.map(both, range(32)))
    assert outcomes == [[(200, "")] * 120] * 32
    with writing(db) as connection:
        [counted] = connection.execute(
            text("SELECT sum(pulls), sum(reward_count), sum(cumulative_reward) FROM oo_ml.policy_state")
        ).all()
    assert tuple(counted) == (32 * 30, 32 * 30 + known * 60, sum(range(32)) / 64 * 30)
    assert_folded(db)


def _codes(service: Service, path: str, items: list[Item]) -> list[tuple[int, str]]:
    return codes(send(service, path, items))


@pytest.mark.parametrize(("path", "item"), [(SCORE, calls.score), (REWARD, calls.reward)])
def test_locked_row(serve: Serve, db: Engine, path: str, item: Any) -> None:  # noqa: ANN401
    """If another session locks the row of one user for too long, the batch is a 503 and changes nothing."""
    service = serve(lock_timeout=0.3, statement_timeout=0.5, request_timeout=5)
    send(service, SCORE, [calls.score("ben")])
    before = timeless(db)
    items = [item(user_id) for user_id in ("ada", "ben", "cleo")]
    with holding_state(db, "ben", LINUCB):
        _assert_unavailable(service.client.post(path, json={"items": items}), "database_timeout")
    assert timeless(db) == before
    assert codes(send(service, path, items)) == [(200, "")] * 3


def test_locked_row_with_lane_one_user(serve: Serve, db: Engine) -> None:
    """With OO_ML_LANE_ONE_USER only the items of the user with the locked row are refused."""
    service = serve(lane_one_user=True, lock_timeout=0.3, statement_timeout=0.5, request_timeout=5)
    send(service, SCORE, [calls.score(user_id, decision_id=name(0)) for user_id in ("ada", "ben", "cleo")])
    values = [number / 64 for number in range(10)]
    items = [
        calls.reward(user_id, value=value, decision_id=name(0))
        for value in values
        for user_id in ("ada", "ben", "cleo")
    ]
    with holding_state(db, "ben", LINUCB):
        outcomes = send(service, REWARD, items)
    assert codes(outcomes) == [(200, ""), (503, "database_timeout"), (200, "")] * 10
    assert [outcome["body"]["applied"] for outcome in outcomes[::3]] == [True, *[False] * 9]
    assert {outcome["body"]["reward"] for outcome in outcomes[::3]} == {0.0}
    assert codes(send(service, REWARD, items)) == [(200, "")] * 30
    assert_folded(db)


@pytest.mark.parametrize(("path", "call"), [(SCORE, calls.score), (REWARD, calls.reward)])
def test_lost_database(database_url: str, db: Engine, path: str, call: Callable[..., Item]) -> None:
    """If the database is lost, the whole batch is a 503 and changes nothing; sent again, it counts once."""
    items = [
        call(decision_id=name(0)),
        call(user_id=""),
    ]
    with proxied(database_url) as (proxy, url), serving(make_settings(), url) as service:
        send(service, SCORE, [calls.score(decision_id=name(0))])
        before = timeless(db)
        proxy.drop()
        _assert_unavailable(service.client.post(path, json={"items": items}), "database_unavailable")
        assert timeless(db) == before
        outcomes = send(service, path, items)
    assert [outcome["status"] for outcome in outcomes] == [200, 422]


def _assert_unavailable(response: httpx.Response, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (503, code)
    assert response.headers["Retry-After"] == "1"
