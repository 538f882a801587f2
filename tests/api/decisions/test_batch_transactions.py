"""Batches of several clients, on locked rows, and without a database: each is one transaction."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import LINUCB
from tests import calls
from tests.api.decisions.batches import (
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
from tests.faults.proxy import run_proxy
from tests.gates import holding_state, wait_until_blocked
from tests.rows import assert_folded
from tests.serving import Service, serving
from tests.sessions import writing
from tests.superuser import tamper


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
            calls.score(user_id, decision_id=id_of(number), policy=POLICIES[place % 2])
            for place, user_id in enumerate(order)
        ]
        rewards = [
            calls.reward(user_id, value=number / 64, policy=POLICIES[place % 2], idempotency_key=f"key {number}")
            for place, user_id in enumerate(reversed(order))
        ]
        chosen = services[number % 2]
        # Twice, as by a client that missed the answer.
        return [
            code for path, items in ((SCORE, decisions), (REWARD, rewards)) * 2 for code in _send(chosen, path, items)
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


def _send(service: Service, path: str, items: list[Item]) -> list[tuple[int, str]]:
    return read_codes(send(service, path, items))


@pytest.mark.parametrize(("path", "item"), [(SCORE, calls.score), (REWARD, calls.reward)])
def test_locked_row(serve: Serve, db: Engine, path: str, item: Any) -> None:  # noqa: ANN401
    """If another session locks the row of one user for too long, the batch is a 503 and changes nothing."""
    service = serve(lock_timeout=0.3)
    send(service, SCORE, [calls.score("ben")])
    before = read_rows_without_times(db)
    items = [item(user_id) for user_id in ("ada", "ben", "cleo")]
    with holding_state(db, "ben", LINUCB):
        _assert_unavailable(service.client.post(path, json={"items": items}), "database_timeout")
    assert read_rows_without_times(db) == before
    assert read_codes(send(service, path, items)) == [(200, "")] * 3


def test_locked_row_with_lane_one_user(serve: Serve, db: Engine) -> None:
    """With OO_ML_LANE_ONE_USER only the items of the user with the locked row are refused."""
    service = serve(lane_one_user=True, lock_timeout=0.3)
    send(service, SCORE, [calls.score(user_id, decision_id=id_of(0)) for user_id in ("ada", "ben", "cleo")])
    values = [number / 64 for number in range(10)]
    items = [
        calls.reward(user_id, value=value, decision_id=id_of(0))
        for value in values
        for user_id in ("ada", "ben", "cleo")
    ]
    with holding_state(db, "ben", LINUCB):
        outcomes = send(service, REWARD, items)
    assert read_codes(outcomes) == [(200, ""), (503, "database_timeout"), (200, "")] * 10
    assert [outcome["body"]["applied"] for outcome in outcomes[::3]] == [True, *[False] * 9]
    assert {outcome["body"]["reward"] for outcome in outcomes[::3]} == {0.0}
    assert read_codes(send(service, REWARD, items)) == [(200, "")] * 30
    assert_folded(db)


def test_model_without_an_inverse(service: Service, db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A user whose model can't be computed with gets errors, together with others or alone; the others get decisions.

    The log names the decision.
    """
    assert service.client.post("/policies", json=calls.publish_policy()).status_code == 201
    makers = [partial(calls.score, policy=policy) for policy in POLICIES]
    makers.append(partial(calls.score_articles, policy=calls.ARTICLES))
    items = [make(user_id) for user_id in ("ada", "ben", "cleo", "ben", "ada") for make in makers]
    assert read_codes(send(service, SCORE, items)) == [(200, "")] * 15
    tamper(
        db,
        "UPDATE oo_ml.policy_state SET a = array_fill(0::float8, ARRAY[cardinality(b), cardinality(b)])"
        " WHERE user_id = 'ben'",
    )
    failed = (500, "unexpected")
    codes = {user_id: failed if user_id == "ben" else (200, "") for user_id in ("ada", "ben", "cleo")}
    assert read_codes(send(service, SCORE, items)) == [codes[item["user_id"]] for item in items]
    decision_id = id_of(1)
    assert send_alone(service, SCORE, calls.score("ben", decision_id=decision_id))["error"]["code"] == "unexpected"
    assert f"decision {decision_id} by linucb-v1: the model of its user has no inverse" in caplog.text
    with writing(db) as connection:
        pulls = connection.execute(
            text("SELECT user_id, array_agg(pulls) FROM oo_ml.policy_state GROUP BY user_id ORDER BY user_id")
        ).all()
    assert pulls == [("ada", [4, 4, 4]), ("ben", [2, 2, 2]), ("cleo", [2, 2, 2])]


@pytest.mark.parametrize(("path", "call"), [(SCORE, calls.score), (REWARD, calls.reward)])
def test_lost_database(database_url: str, db: Engine, path: str, call: Callable[..., Item]) -> None:
    """If the database is lost under way, the whole batch is a 503 and changes nothing; sent again, it counts once."""
    items = [
        call(decision_id=id_of(0)),
        call(user_id=""),
    ]
    with (
        run_proxy(database_url) as (proxy, url),
        serving(make_settings(), url) as service,
        ThreadPoolExecutor(1) as client,
    ):
        send(service, SCORE, [calls.score(decision_id=id_of(0))])
        before = read_rows_without_times(db)
        with holding_state(db, "ada", LINUCB):
            waiting = client.submit(service.client.post, path, json={"items": items})
            wait_until_blocked(db, 1)
            proxy.drop()
            _assert_unavailable(waiting.result(), "database_unavailable")
        assert read_rows_without_times(db) == before
        outcomes = send(service, path, items)
    assert [outcome["status"] for outcome in outcomes] == [200, 422]


def _assert_unavailable(response: httpx.Response, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (503, code)
    assert response.headers["Retry-After"] == "1"
