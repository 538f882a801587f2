"""A database that is slow, silent, unreachable or busy: a 503 in time, nothing lost, and recovery afterwards."""

import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import httpx
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import LINUCB
from tests import calls
from tests.conftest import Serve, make_settings
from tests.faults.proxy import run_proxy
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.serving import Service, serving
from tests.superuser import superuser
from tests.waiting import PATIENCE, until

HURRIED = {"lock_timeout": 0.3, "statement_timeout": 0.5, "request_timeout": 1.0, "database_connect_timeout": 2}


def test_silent_database(database_url: str, db: Engine) -> None:
    """More calls than there are threads are all answered 503 at their deadlines, and then the service works again."""
    # No connection is checked before its use, however long it was idle on a busy machine.
    settings = make_settings(**HURRIED, lanes=2, database_workers=2, database_idle_check=PATIENCE)
    with (
        run_proxy(database_url) as (proxy, url),
        serving(settings, url) as service,
        ThreadPoolExecutor(12) as clients,
    ):
        _wait_until_answered(service)
        proxy.mute()
        started = time.monotonic()
        answers = [call(service) for call in (_score, _score_batch)]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "database_timeout")] * 2
        assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
        sent = [clients.submit(call, service, f"user {n}") for n in range(6) for call in (_score, _score_batch)]
        answers += [call.result() for call in sent]
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert time.monotonic() - started < PATIENCE / 2
        # The proxy has kept the silent connections: the service itself has closed them.
        _wait_until_answered(service)
        answered = sum(answer.status_code == 200 for answer in answers)
    counted = "SELECT coalesce(sum(pulls), 0)::int FROM oo_ml.policy_state WHERE user_id <> :other"
    found = scalar(db, counted, other=_OTHER)
    assert isinstance(found, int)
    # A call whose time is over at its COMMIT may count too.
    assert answered <= found <= len(answers)


# A user whose calls are repeated until they are answered, because a new connection may take long on a busy machine.
_OTHER = "zoë"


def _wait_until_answered(service: Service) -> None:
    for call in (_score, _score_batch):
        until(lambda call=call: call(service, _OTHER).status_code == 200)  # type: ignore[misc]


def _score(service: Service, user_id: str = "ada") -> httpx.Response:
    return service.client.post("/score", json=calls.score(user_id))


def _score_batch(service: Service, user_id: str = "ada") -> httpx.Response:
    return service.client.post("/score/batch", json={"items": [calls.score(user_id)]})


def test_dropped_connection(database_url: str, db: Engine) -> None:
    """A call whose connection is dropped under way is answered 503, and the next call gets a new connection."""
    with (
        run_proxy(database_url) as (proxy, url),
        serving(make_settings(), url) as service,
        ThreadPoolExecutor(1) as client,
    ):
        assert service.client.post("/score", json=calls.score()).status_code == 200
        with holding_state(db, "ada", LINUCB):
            waiting = client.submit(service.client.post, "/score", json=calls.score())
            wait_until_blocked(db, 1)
            proxy.drop()
            answer = waiting.result()
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert service.client.post("/score", json=calls.score()).status_code == 200


def test_unreachable_database() -> None:
    """Without its database the service starts, reports that it is not ready, and answers calls that need none."""
    with serving(make_settings(), "postgresql://missing@127.0.0.1:1/nothing") as service:
        assert service.client.get("/health").json() == {"ok": True}
        assert service.client.get("/readyz").status_code == 503
        answer = service.client.post("/score", json=calls.score())
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")


@pytest.mark.parametrize("lane_lock_timeout", [HURRIED["lock_timeout"], 0.05])
def test_lock_timeout(serve: Serve, db: Engine, lane_lock_timeout: float) -> None:
    """OO_ML_LOCK_TIMEOUT ends the wait for a lock, although the lane tries several times; no reward is stored."""
    service = serve(**HURRIED, lane_lock_timeout=lane_lock_timeout)
    until(lambda: _score(service).status_code == 200)
    with holding_state(db, "ada", LINUCB):
        answer = service.client.post("/reward", json=calls.reward())
    assert (answer.status_code, answer.json()["code"]) == (503, "database_timeout")
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 0


@pytest.mark.parametrize(
    ("path", "settings"),
    [("/reward", {"lane_queue": 1}), ("/reward/batch", {"database_workers": 1, "database_queue": 1})],
)
def test_full_queue(serve: Serve, db: Engine, path: str, settings: dict[str, int]) -> None:
    """With one call under way and one in the queue, the third is refused at once; the other two succeed."""
    service = serve(**settings)
    service.client.post("/score", json=calls.score())
    body = {"/reward": calls.reward(), "/reward/batch": {"items": [calls.reward()]}}[path]
    with ThreadPoolExecutor(3) as clients, holding_state(db, "ada", LINUCB):
        first = clients.submit(service.client.post, path, json=body)
        wait_until_blocked(db, 1)
        second, third = (clients.submit(service.client.post, path, json=body) for _ in range(2))
        # The later one of the two finds the one place in the queue taken.
        refused = next(as_completed([second, third])).result()
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert not first.done()
    assert sorted(call.result().status_code for call in (first, second, third)) == [200, 200, 503]
    assert scalar(db, "SELECT reward_count FROM oo_ml.policy_state") == 2


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
@pytest.mark.parametrize("table", ["policy_state", "reward_ledger"])
def test_retry_after_abort(service: Service, db: Engine, sqlstate: str, table: str) -> None:
    """A reward whose transaction is aborted three times, at any statement, counts exactly once."""
    _abort(db, table, sqlstate, times=3)
    assert service.client.post("/reward", json=calls.reward()).status_code == 200
    assert scalar(db, "SELECT (reward_count, version)::text FROM oo_ml.policy_state") == "(1,1)"
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 1


def test_always_aborted_transaction(service: Service, db: Engine) -> None:
    """A transaction that is aborted on all four tries is answered 503 and leaves nothing behind."""
    _abort(db, "reward_ledger", "40001", times=1000)
    answer = service.client.post("/reward", json=calls.reward())
    assert (answer.status_code, answer.json()["code"]) == (503, "database_timeout")
    assert scalar(db, "SELECT last_value FROM aborts") == 4
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 0


def test_read_only_database(service: Service, db: Engine) -> None:
    """After a failover, writes are answered 503 until the primary is back; reads go on."""
    service.client.post("/score", json=calls.score())
    name = db.url.database
    with superuser(db) as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
        )
        connection.execute(text(others), {"name": name})
    answer = service.client.post("/reward", json=calls.reward())
    assert (answer.status_code, answer.json()["code"]) == (503, "database_read_only")
    assert service.client.get("/stats/ada").status_code == 200


def _abort(db: Engine, table: str, sqlstate: str, *, times: int) -> None:
    """Let the next `times` inserts or updates of a table fail; a sequence counts them, since it survives a rollback."""
    with superuser(db) as connection:
        connection.execute(text("CREATE SEQUENCE aborts"))
        connection.execute(text("GRANT ALL ON SEQUENCE aborts TO PUBLIC"))
        connection.execute(
            text(f"""
                CREATE FUNCTION abort() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF nextval('aborts') <= {times} THEN
                        RAISE EXCEPTION 'aborted' USING ERRCODE = '{sqlstate}';
                    END IF;
                    RETURN NEW;
                END $$
            """)
        )
        connection.execute(
            text(
                f"CREATE TRIGGER aborts BEFORE INSERT OR UPDATE ON oo_ml.{table} FOR EACH ROW EXECUTE FUNCTION abort()"
            )
        )
