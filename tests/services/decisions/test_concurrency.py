"""Concurrent calls: none is lost, and none counts twice.

At one service the calls of a user wait for each other in their lane; from two services they meet in the database.
"""

import socket
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
import psycopg
import pytest
from sqlalchemy import Engine, event, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.services.decisions.reset import reset
from oo_ml.storage import policy_state
from oo_ml.storage.policy_state import StateKey
from tests import calls
from tests.conftest import Serve
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.policies import FRESH
from tests.serving import Service
from tests.sessions import open_session, writing
from tests.superuser import superuser

ADA = StateKey("ada", LINUCB)


def test_concurrent_rewards(service: Service, second_service: Service, db: Engine) -> None:
    """The second of two rewards waits for the first and starts from the state that it left."""
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with holding_state(db, *ADA):
            answers = [
                clients.submit(at.client.post, "/reward", json=calls.reward(value=value))
                for at, value in [(service, 0.5), (second_service, 1.0)]
            ]
            wait_until_blocked(db, 2)
        assert [answer.result().status_code for answer in answers] == [200, 200]
    with writing(db) as connection:
        state = policy_state.read_states(connection, "ada")[LINUCB]
        versions = connection.scalars(text("SELECT version FROM oo_ml.reward_ledger ORDER BY version")).all()
        x = connection.scalars(text("SELECT x FROM oo_ml.reward_ledger LIMIT 1")).one()
    assert (state.reward_count, state.version, state.cumulative_reward) == (2, 2, 1.5)
    assert versions == [1, 2]
    assert np.array_equal(state.evidence.A, np.eye(5) + np.outer(x, x) + np.outer(x, x))


def test_concurrent_score_and_reward(service: Service, second_service: Service, db: Engine) -> None:
    """Both change different columns of one row, and neither overwrites the other's."""
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with holding_state(db, *ADA):
            scored = clients.submit(service.client.post, "/score", json=calls.score())
            rewarded = clients.submit(second_service.client.post, "/reward", json=calls.reward())
            wait_until_blocked(db, 2)
        assert (scored.result().status_code, rewarded.result().status_code) == (200, 200)
    stats = service.client.get("/stats/ada").json()
    assert (stats["pulls"], stats["reward_count"]) == (2, 1)


def test_concurrent_reset_and_reward(service: Service, second_service: Service, db: Engine) -> None:
    """A reset waits for a reward in progress, which stays in its own epoch."""
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with holding_state(db, *ADA):
            rewarded = clients.submit(service.client.post, "/reward", json=calls.reward())
            wait_until_blocked(db, 1)
            erased = clients.submit(second_service.client.post, "/reset/ada")
            wait_until_blocked(db, 2)
        assert (rewarded.result().status_code, erased.result().status_code) == (200, 200)
    assert scalar(db, "SELECT array_agg((epoch, version)::text) FROM oo_ml.reward_ledger") == ["(0,1)"]
    assert service.client.get("/stats/ada").json()["reward_count"] == 0


def test_policies_of_a_user_are_independent(service: Service, second_service: Service, db: Engine) -> None:
    """A call that waits for one policy's row does not hold up a call for the other policy at another service."""
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with holding_state(db, *ADA):
            rewarded = clients.submit(service.client.post, "/reward", json=calls.reward())
            wait_until_blocked(db, 1)
            assert second_service.client.post("/score/egreedy", json=calls.score()).status_code == 200
            assert not rewarded.done()
        assert rewarded.result().status_code == 200


def test_calls_of_a_user_share_a_lane(serve: Serve, db: Engine) -> None:
    """At one service a user's calls wait behind the first one, for the other policy too; a full queue refuses."""
    service = serve(lane_queue=2)
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with holding_state(db, *ADA):
            first = clients.submit(service.client.post, "/reward", json=calls.reward())
            wait_until_blocked(db, 1)
            behind = {clients.submit(service.client.post, "/reward/egreedy", json=calls.reward()) for _ in range(3)}
            refused = next(as_completed(behind))
            assert (refused.result().status_code, refused.result().json()["code"]) == (503, "overloaded")
            # The other two have the places.
            waiting = behind - {refused}
            wait_until_blocked(db, 1)
            assert not any(call.done() for call in (first, *waiting))
        assert [call.result().status_code for call in (first, *waiting)] == [200, 200, 200]
    counted = "SELECT array_agg((policy, reward_count)::text ORDER BY policy) FROM oo_ml.policy_state"
    assert scalar(db, counted) == ["(egreedy-v1,2)", "(linucb-v1,1)"]


@pytest.mark.parametrize(("path", "at_once"), [("/score", 2), ("/score/batch", 50)])
def test_concurrent_first_calls(serve: Serve, db: Engine, path: str, at_once: int) -> None:
    """Fifty first calls at two services, held while the row is created, all count, and leave one row.

    Calls of a lane wait behind the first one, and then share transactions; each batch call has its own transaction.
    """
    body = calls.score() if path == "/score" else {"items": [calls.score()]}
    services = [serve(database_workers=25).client for _ in range(2)]
    with ThreadPoolExecutor(50) as clients:
        with open_session(db) as creator:
            # An uncommitted row of the same key: every call finds none, inserts, and waits for this transaction.
            policy_state.lock_or_create_states(creator, {ADA: FRESH[ADA.policy]})
            answers = [clients.submit(services[i % 2].post, path, json=body) for i in range(50)]
            wait_until_blocked(db, at_once)
            creator.rollback()
        assert {answer.result().status_code for answer in answers} == {200}
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 1
    assert scalar(db, "SELECT pulls FROM oo_ml.policy_state") == 50
    assert scalar(db, "SELECT count(DISTINCT decision_id) FROM oo_ml.feature_history") == 50


def test_rewards_at_several_services(serve: Serve, db: Engine) -> None:
    """With three services and one user the sum is exact and the ledger has no gap."""
    services = [serve().client for _ in range(3)]
    with ThreadPoolExecutor(12) as clients:
        body = calls.reward(value=0.25)
        answers = [clients.submit(services[i % 3].post, "/reward/egreedy", json=body) for i in range(60)]
        assert {answer.result().status_code for answer in answers} == {200}
    with writing(db) as connection:
        state = policy_state.read_states(connection, "ada")[EPSILON_GREEDY]
        versions = connection.scalars(text("SELECT version FROM oo_ml.reward_ledger ORDER BY version")).all()
    assert (state.reward_count, state.cumulative_reward) == (60, 15.0)
    assert versions == list(range(1, 61))


def test_row_erased_after_creation(database_url: str, db: Engine) -> None:
    """If another transaction creates the row first, and it is erased at once, the lock creates it again."""
    steps = [
        "INSERT INTO oo_ml.policy_state VALUES ('ada', 'linucb-v1', 0, 7, 0, 0, 0, 0, NULL, '{{1}}', '{0}')",
        "DELETE FROM oo_ml.policy_state",
    ]

    def step(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "INSERT INTO oo_ml.policy_state" in statement and steps:
            with psycopg.connect(database_url, autocommit=True) as other:
                other.execute(steps.pop(0).encode())

    event.listen(db, "before_cursor_execute", step)
    event.listen(db, "after_cursor_execute", step)
    with writing(db) as connection:
        assert policy_state.lock_or_create_states(connection, {ADA: FRESH[ADA.policy]})[ADA].version == 0
    assert steps == []
    assert scalar(db, "SELECT array_agg(version) FROM oo_ml.policy_state") == [0]


def test_lock_order(db: Engine) -> None:
    """A batch that waits for its first key holds none of the later ones, so batches cannot deadlock."""
    keys = [StateKey(user, LINUCB) for user in ("a", "b", "c")]
    with writing(db) as connection:
        policy_state.lock_or_create_states(connection, {key: FRESH[key.policy] for key in keys})
    with ThreadPoolExecutor() as others, holding_state(db, *keys[0]):
        batch = others.submit(_reset_all, db, ["c", "b", "a"])
        wait_until_blocked(db, 1)
        for user in ("b", "c"):
            assert (
                scalar(
                    db,
                    "SELECT user_id FROM oo_ml.policy_state WHERE user_id = :user FOR NO KEY UPDATE NOWAIT",
                    user=user,
                )
                == user
            )
        assert not batch.done()
    batch.result()


def _reset_all(db: Engine, user_ids: list[str]) -> None:
    with writing(db) as connection:
        reset(connection, user_ids)


def test_client_disconnects(service: Service, db: Engine) -> None:
    """The transaction of a call is finished after its client has disconnected."""
    service.client.post("/score", json=calls.score())
    with holding_state(db, *ADA):
        request = service.client.build_request("POST", "/reward", json=calls.reward())
        with socket.create_connection((request.url.host, request.url.port or 80)) as client:
            headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
            client.sendall(f"POST /reward HTTP/1.1\r\n{headers}\r\n".encode() + request.content)
            wait_until_blocked(db, 1)
    # The next call of the same user is behind it.
    service.client.post("/score", json=calls.score())
    assert service.client.get("/stats/ada").json()["reward_count"] == 1


@pytest.mark.parametrize("path", ["/score", "/reward", "/reset/ada"])
def test_acknowledgement_after_commit(service: Service, db: Engine, path: str) -> None:
    """A transaction that fails at COMMIT itself is answered with 503 and leaves nothing."""
    service.client.post("/score", json=calls.score())
    before = scalar(db, "SELECT to_jsonb(s) FROM oo_ml.policy_state AS s")
    fail_at_commit(db, "ada")
    body = {"/score": calls.score(), "/reward": calls.reward()}.get(path)
    answer = service.client.post(path, json=body)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert scalar(db, "SELECT to_jsonb(s) FROM oo_ml.policy_state AS s") == before
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 1
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 0


def test_failed_commit_of_a_shared_transaction(serve: Serve, db: Engine) -> None:
    """If a shared transaction fails at COMMIT, only the call at fault is refused; the others are committed."""
    service = serve(lanes=1, lane_queue=5)
    for user_id in ("ada", "ben", "cleo"):
        service.client.post("/score", json=calls.score(user_id))
    fail_at_commit(db, "ben")
    with ThreadPoolExecutor(7) as clients:
        with holding_state(db, *ADA):
            first = clients.submit(service.client.post, "/reward", json=calls.reward())
            wait_until_blocked(db, 1)
            behind = {
                clients.submit(service.client.post, "/reward", json=calls.reward(user_id)): user_id
                for user_id in ("ben", "cleo") * 3
            }
            # Once one finds no room, the others wait, to share the next transaction.
            refused = next(as_completed(behind))
            assert refused.result().json()["code"] == "overloaded"
            del behind[refused]
        assert first.result().status_code == 200
        for call, user_id in behind.items():
            assert call.result().status_code == {"ben": 503, "cleo": 200}[user_id]
    for user_id, expected in [("ada", 1), ("ben", 0), ("cleo", list(behind.values()).count("cleo"))]:
        assert service.client.get(f"/stats/{user_id}").json()["reward_count"] == expected
        counted = "SELECT count(*) FROM oo_ml.reward_ledger WHERE user_id = :user"
        assert scalar(db, counted, user=user_id) == expected


def fail_at_commit(db: Engine, user_id: str) -> None:
    """Make every transaction that changes this user's state fail, at COMMIT itself."""
    with superuser(db) as connection:
        connection.execute(
            text("""
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = 'query_canceled'; END $$
            """)
        )
        connection.execute(
            text(f"""
                CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON oo_ml.policy_state DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW WHEN (NEW.user_id = '{user_id}') EXECUTE FUNCTION refuse()
            """)
        )
