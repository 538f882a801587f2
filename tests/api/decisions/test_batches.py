"""Batches: each item has the outcome of its single call, and all items are one transaction."""

import random
from collections.abc import Iterator
from datetime import timedelta
from itertools import permutations, product
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests import calls
from tests.api.decisions.batches import (
    CALLS,
    EXPLORING,
    NOW,
    POLICIES,
    REWARD,
    SCORE,
    Item,
    id_of,
    read_codes,
    read_rows_without_times,
    send,
    send_alone,
)
from tests.conftest import Serve, make_settings
from tests.gates import scalar
from tests.migrations.rows import uuid7
from tests.rows import assert_folded
from tests.serving import Service, serving
from tests.sessions import writing


def test_order_of_outcomes(service: Service, db: Engine) -> None:
    """Outcomes have the order of the items; an item without a policy is decided by linucb-v1."""
    rng = random.Random(1)  # noqa: S311
    items = [
        calls.score(f"user {rng.randrange(10)}", decision_id=id_of(number), policy=rng.choice(POLICIES))
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
        for outcome in send(service, SCORE, [calls.score(decision_id=id_of(number)) for number in range(2)])
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
    service = serve(**EXPLORING)
    said: set[tuple[int, str]] = set()
    with serving(make_settings(**EXPLORING), other_database_url) as other:
        for number, (path, items) in enumerate(_story(random.Random(2))):  # noqa: S311
            with subtests.test(f"{number}: {path}"):
                outcomes = send(service, path, items)
                assert outcomes == [send_alone(other, path, item) for item in items]
                assert read_rows_without_times(db) == read_rows_without_times(other_db)
                said |= set(read_codes(outcomes))
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
                decision_id=id_of(rng.randrange(start, start + 60)),
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
        item["decision_id"] = id_of(rng.randrange(names))
    if rng.random() < 0.3:
        item["idempotency_key"] = rng.choice("abcdef")
    return item


@pytest.mark.parametrize(("first", "second"), list(permutations(CALLS, 2)))
def test_repeated_decision_across_calls(service: Service, first: str, second: str) -> None:
    """A decision repeated in a batch or alone gets the stored answer and counts once, whichever call made it."""
    for policy, other in zip(POLICIES, reversed(POLICIES), strict=True):
        item = calls.score(policy, decision_id=id_of(0), policy=policy)
        made = CALLS[first](service, SCORE, item)
        assert made["body"]["policy"] == policy
        service.client.post("/reward", json=calls.reward(policy, value=-1))
        assert CALLS[second](service, SCORE, item) == made
        for call in (first, second):
            assert read_codes([CALLS[call](service, SCORE, item | {"policy": other})]) == [(409, "decision_exists")]
    assert service.client.get(f"/stats/{LINUCB}").json()["pulls"] == 1


@pytest.mark.parametrize(("first", "second"), list(permutations(CALLS, 2)))
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
        made = CALLS[first](service, REWARD, named)
        assert made["body"]["applied"] is True
        assert CALLS[second](service, REWARD, named) == made | {"body": made["body"] | {"applied": False}}
        changes: list[Item] = [{"reward": 0.5}, {"policy": other}]
        for call, change in product((first, second), changes):
            assert read_codes([CALLS[call](service, REWARD, named | change)]) == [(409, "idempotency_key_reused")]


def test_repetition_within_a_batch(service: Service) -> None:
    """A decision_id or key repeated within a batch gets the first answer, or a 409 if the item differs."""
    item = calls.score(decision_id=id_of(0))
    other = calls.score(decision_id=id_of(0), context={"hour_of_day": 10})
    outcomes = send(service, SCORE, [item, other, item])
    assert read_codes(outcomes) == [(200, ""), (409, "decision_exists"), (200, "")]
    assert outcomes[2] == outcomes[0]
    named = calls.reward(idempotency_key="a")
    outcomes = send(service, REWARD, [named, named | {"tip_id": "t2"}, named])
    assert read_codes(outcomes) == [(200, ""), (409, "idempotency_key_reused"), (200, "")]
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
    assert read_codes(outcomes) == [(200, ""), (422, "decision_too_old"), (200, "")]
