"""Many equal calls at once: they count once, and every caller gets that answer; different calls all count.

The calls go to several services, so their lanes meet in the database. They go to two endpoints of each service: a batch
of one has a transaction and a thread of its own.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import cycle, product
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.storage import policy_state
from oo_ml.storage.policy_state import StateKey
from tests import calls
from tests.commands import run_serve
from tests.conftest import Serve
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.migrations.rows import uuid7
from tests.policies import FRESH
from tests.rows import assert_folded
from tests.services.reference_policies import PATH_SUFFIXES
from tests.sessions import open_session, writing

ADA = StateKey("ada", LINUCB)
CROWD = 100
SERVICES = 2
WORKERS = 8  # of each of them, besides its lane for ada
# Any sum of them is exact.
VALUES = [(number - CROWD // 2) / 64 for number in range(CROWD)]


@pytest.fixture
def processes(database_url: str, tmp_path: Path) -> Iterator[list[httpx.Client]]:
    """Start two services, each in a process of its own, and return a client for each."""

    def start(number: int) -> httpx.Client:
        variables = {"OO_ML_DATABASE_URL": database_url, "OO_ML_DATABASE_WORKERS": WORKERS}
        return running.enter_context(run_serve(tmp_path / str(number), **variables)).client

    with ExitStack() as running, ThreadPoolExecutor(SERVICES) as starting:
        yield list(starting.map(start, range(SERVICES)))


def test_concurrent_rewards_for_one_decision(serve: Serve, db: Engine) -> None:
    """Of a hundred different rewards that wait for one row the first counts, and all answers name it."""
    services = [serve(database_workers=WORKERS).client for _ in range(SERVICES)]
    [decision] = decide(services[0], 1)
    with ThreadPoolExecutor(CROWD) as clients:
        with holding_state(db, *ADA):
            sent = [
                clients.submit(call, service, "/reward", decision | {"reward": value})
                for value, (service, call) in zip(VALUES, cycle(product(services, (post, in_a_batch))), strict=False)
            ]
            wait_until_blocked(db, SERVICES * (1 + WORKERS))
        answers = [call.result() for call in sent]
    [first] = [place for place, answer in enumerate(answers) if answer["applied"]]
    said = {"ok": True, "reward": VALUES[first], "decision_id": decision["decision_id"]}
    assert answers == [said | {"applied": place == first} for place in range(CROWD)]
    assert state(db) == (1, 1, 1, VALUES[first])
    assert scalar(db, "SELECT reward FROM oo_ml.feature_history") == VALUES[first]
    assert scalar(db, "SELECT array_agg(reward) FROM oo_ml.reward_ledger") == [VALUES[first]]
    assert_folded(db)


def test_concurrent_rewards_for_one_user(processes: list[httpx.Client], db: Engine) -> None:
    """Of a reward for each of a hundred decisions, sent to two processes, each counts exactly once.

    One of the two calls is a batch.
    """
    decisions = [
        decision | {"reward": value} for decision, value in zip(decide(processes[0], CROWD), VALUES, strict=True)
    ]
    with ThreadPoolExecutor(2 * CROWD) as clients:
        with holding_state(db, *ADA):
            sent = [
                [
                    clients.submit(call, processes[(number + turn) % SERVICES], "/reward", body)
                    for turn, call in enumerate((post, in_a_batch))
                ]
                for number, body in enumerate(decisions)
            ]
            wait_until_blocked(db, SERVICES * (1 + WORKERS))
        answers = [[call.result() for call in both] for both in sent]
    assert [sorted(answer["applied"] for answer in both) for both in answers] == [[False, True]] * CROWD
    assert [[answer["reward"] for answer in both] for both in answers] == [[value, value] for value in VALUES]
    assert state(db) == (CROWD, CROWD, CROWD, sum(VALUES))
    with writing(db) as connection:
        rewards = connection.execute(text("SELECT decision_id, reward FROM oo_ml.feature_history")).all()
    assert {str(name): reward for name, reward in rewards} == {
        decision["decision_id"]: decision["reward"] for decision in decisions
    }
    assert_folded(db)


def test_concurrent_requests_for_one_decision(serve: Serve, db: Engine) -> None:
    """A user's first decision, requested a hundred times while the row is created, is one pull with one answer."""
    services = [serve(database_workers=WORKERS).client for _ in range(SERVICES)]
    body = calls.score(decision_id=str(uuid7(datetime.now(UTC))))
    with ThreadPoolExecutor(CROWD) as clients:
        with open_session(db) as creator:
            policy_state.lock_or_create_states(creator, {ADA: FRESH[ADA.policy]})
            sent = [
                clients.submit(call, service, "/score", body)
                for _, (service, call) in zip(range(CROWD), cycle(product(services, (post, in_a_batch))), strict=False)
            ]
            wait_until_blocked(db, SERVICES * (1 + WORKERS))
            creator.rollback()
        answers = [call.result() for call in sent]
    assert answers == [answers[0]] * CROWD
    assert state(db) == (1, 0, 0, 0.0)
    assert scalar(db, "SELECT array_agg(decision_id) FROM oo_ml.feature_history") == [UUID(body["decision_id"])]


@pytest.mark.parametrize(
    "kinds",
    [[(LINUCB, 0.5)], [(LINUCB, 0.5), (LINUCB, -0.5), (EPSILON_GREEDY, 0.5)]],
    ids=["alike", "different"],
)
def test_concurrent_calls_with_one_idempotency_key(serve: Serve, db: Engine, kinds: list[tuple[str, float]]) -> None:
    """One call is applied, equal calls are told so, and other calls with the key are refused."""
    services = [serve(database_workers=WORKERS).client for _ in range(SERVICES)]
    for path in ("/score", "/score/egreedy"):
        post(services[0], path, calls.score())
    with ThreadPoolExecutor(50) as clients:
        with holding_state(db, *ADA), holding_state(db, "ada", EPSILON_GREEDY):
            sent = [
                (kind, clients.submit(call, service, *kind))
                for _, (service, call, kind) in zip(
                    range(50), cycle(product(services, (with_key, with_key_in_a_batch), kinds)), strict=False
                )
            ]
            wait_until_blocked(db, SERVICES * (1 + WORKERS))
        answers = [(kind, *call.result()) for kind, call in sent]
    [first] = [kind for kind, _, answer in answers if answer.get("applied")]
    for kind, status, answer in answers:
        if kind == first:
            assert (status, answer["reward"]) == (200, first[1])
        else:
            assert (status, answer["code"]) == (409, "idempotency_key_reused")
    assert scalar(db, "SELECT array_agg(reward) FROM oo_ml.reward_ledger") == [first[1]]
    assert scalar(db, "SELECT sum(reward_count) FROM oo_ml.policy_state") == 1
    assert_folded(db)


def decide(client: httpx.Client, count: int) -> list[dict[str, Any]]:
    """Make decisions for ada; return the body of a reward for each, without the reward itself."""
    now = datetime.now(UTC)
    answers = [post(client, "/score", calls.score(decision_id=str(uuid7(now, number)))) for number in range(count)]
    return [{"user_id": "ada", "tip_id": answer["tip_id"], "decision_id": answer["decision_id"]} for answer in answers]


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make a call that succeeds."""
    answer: dict[str, Any] = client.post(path, json=body).raise_for_status().json()
    return answer


def in_a_batch(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make the same call as a batch of one."""
    [outcome] = post(client, f"{path}/batch", {"items": [body]})["outcomes"]
    assert outcome["status"] == 200
    answer: dict[str, Any] = outcome["body"]
    return answer


def with_key(client: httpx.Client, policy: str, value: float) -> tuple[int, dict[str, Any]]:
    """Send a reward whose key is always the same; return the status and the answer."""
    answer = client.post(
        f"/reward{PATH_SUFFIXES[policy]}", json=calls.reward(value=value), headers={"Idempotency-Key": "a"}
    )
    return answer.status_code, answer.json()


def with_key_in_a_batch(client: httpx.Client, policy: str, value: float) -> tuple[int, dict[str, Any]]:
    """Send the same as a batch of one."""
    item = calls.reward(value=value, policy=policy, idempotency_key="a")
    [outcome] = post(client, "/reward/batch", {"items": [item]})["outcomes"]
    return outcome["status"], outcome["body"] if outcome["status"] == 200 else outcome["error"]


def state(db: Engine) -> tuple[object, ...]:
    """Return pulls, version, number and sum of rewards of ada's linucb-v1."""
    with writing(db) as connection:
        row = connection.execute(
            text(
                "SELECT pulls, version, reward_count, cumulative_reward FROM oo_ml.policy_state WHERE policy = :policy"
            ),
            {"policy": LINUCB},
        ).one()
    return tuple(row)
