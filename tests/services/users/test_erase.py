"""Erasure: no row of the user is left in any table, and no row of any other user is missing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.services.audit.verify import verify
from oo_ml.services.upkeep import daily_sums
from oo_ml.services.upkeep.daily_sums import CountCommand, Days
from oo_ml.services.users.erase import erase
from oo_ml.storage import policy_state
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.user_ranges import ALL_USERS
from tests import calls
from tests.conftest import Serve
from tests.gates import has_blocked, holding_state, scalar, wait_until_blocked
from tests.policies import FRESH
from tests.services.decisions.batches import score, scores
from tests.services.sample_users import ADA, create_users, detach_the_past, insert_generations, rows_of, rows_of_others
from tests.services.scenario import teach
from tests.services.upkeep.daily_sums.counting import count
from tests.serving import Service
from tests.sessions import open_session, writing
from tests.waiting import until

NO_ROWS = dict.fromkeys(ADA, 0)


def erase_users(db: Engine, *user_ids: str) -> list[dict[str, int]]:
    """Erase users in one transaction."""
    with writing(db) as connection:
        return erase(connection, user_ids)


def test_erasure(db: Engine) -> None:
    """No column of any table names an erased user, and no other user loses a row; a second erasure deletes nothing."""
    create_users(db)
    teach(db, "adalbert")
    insert_generations(db, "adalbert", 9)
    with writing(db) as connection:
        score(connection, scores(1, 5, ["adalbert"]))
    before = rows_of_others(db, "ada")
    assert sum(map(len, rows_of(db, "adalbert").values())) > 10
    assert sum(map(len, rows_of(db, "ada").values())) == sum(ADA.values())
    assert erase_users(db, "ada") == [ADA]
    assert rows_of(db, "ada") == {}
    assert rows_of_others(db, "ada") == before
    assert erase_users(db, "ada") == [NO_ROWS]
    with writing(db) as connection:
        [report] = verify(connection, [ALL_USERS])
    assert report.difference is None


def test_several_users(db: Engine) -> None:
    """The result has the counts of each user; the second of two erasures of a user counts 0."""
    create_users(db)
    zoe = {**NO_ROWS, "generations": 2, "policy_state": 1, "prompt_assignments": 1, "reward_ledger": 1, "tips": 2}
    assert erase_users(db, "zoë", "ada", "unknown", "ada") == [zoe, ADA, NO_ROWS, NO_ROWS]
    assert rows_of(db, "ben") != {}


def test_detached_months(db: Engine) -> None:
    """Rows in detached months are erased too."""
    create_users(db)
    detach_the_past(db)
    before = rows_of_others(db, "ada")
    assert erase_users(db, "ada") == [{**ADA, "feature_history": 0, "feature_history_1970_01": 7}]
    assert rows_of(db, "ada") == {}
    assert rows_of_others(db, "ada") == before


def test_tables_of_other_applications(db: Engine, postgresql: psycopg.Connection[Any]) -> None:
    """Only declared tables are erased, whatever other tables in public or oo_ml have a user_id."""
    create_users(db)
    for table in ("public.orders", "oo_ml.orders", "oo_ml.feature_history_of_mine"):
        postgresql.execute(f"CREATE TABLE {table} (user_id text, amount numeric)".encode())
        postgresql.execute(f"INSERT INTO {table} VALUES ('ada', 12.50)".encode())  # noqa: S608
    postgresql.execute("GRANT ALL ON ALL TABLES IN SCHEMA public, oo_ml TO PUBLIC")
    postgresql.commit()
    assert erase_users(db, "ada") == [ADA]
    assert {table: len(rows) for table, rows in rows_of(db, "ada").items()} == {
        "orders": 1,
        "oo_ml.orders": 1,
        "oo_ml.feature_history_of_mine": 1,
    }


def test_order_of_tables(db: Engine) -> None:
    """A table comes before the tables that it refers to: a distributed database checks foreign keys after each part."""
    create_users(db)
    statements: list[str] = []
    event.listen(db, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    erase_users(db, "ada")
    [first, *_] = [statement for statement in statements if "DELETE FROM" in statement]
    assert first.index("DELETE FROM oo_ml.tips") < first.index("DELETE FROM oo_ml.generations")


def test_rows_inserted_during_an_erasure(db: Engine) -> None:
    """Tips that are inserted without a lock before the last pass are erased and counted."""
    insert_generations(db, "ada", 0)
    looks = 0

    def write_more(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal looks
        if "DELETE FROM" in statement:
            looks += 1
            if looks < 3:
                insert_generations(db, "ada", looks)

    event.listen(db, "after_cursor_execute", write_more)
    assert erase_users(db, "ada") == [{**NO_ROWS, "generations": 6, "tips": 6}]
    assert looks == 4
    assert rows_of(db, "ada") == {}


def test_reward_under_way(service: Service, db: Engine) -> None:
    """An erasure waits for a reward under way, which is acknowledged and then erased."""
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with holding_state(db, "ada", LINUCB):
            rewarded = clients.submit(service.client.post, "/reward", json=calls.reward())
            wait_until_blocked(db, 1)
            gone = clients.submit(service.client.delete, "/users/ada")
            wait_until_blocked(db, 2)
        assert rewarded.result().status_code == 200
        assert gone.result().json()["erased"] == {
            **NO_ROWS,
            "feature_history": 1,
            "policy_state": 1,
            "reward_ledger": 1,
        }
    assert rows_of(db, "ada") == {}


@pytest.mark.parametrize(("path", "policy"), [("/score", LINUCB), ("/score/egreedy", EPSILON_GREEDY)])
def test_decision_that_waits_for_an_erasure(service: Service, db: Engine, path: str, policy: str) -> None:
    """A decision waits for an erasure under way, then creates the user again, with epoch 0."""
    service.client.post(path, json=calls.score())
    service.client.post("/reset/ada")
    with ThreadPoolExecutor() as clients:
        with holding_state(db, "ada", policy):
            gone = clients.submit(service.client.delete, "/users/ada")
            wait_until_blocked(db, 1)
            scored = clients.submit(service.client.post, path, json=calls.score())
            wait_until_blocked(db, 2)
        assert gone.result().json()["total"] == 2
        assert scored.result().status_code == 200
    assert scalar(db, "SELECT array_agg((policy, epoch, pulls)::text) FROM oo_ml.policy_state") == [f"({policy},0,1)"]
    assert scalar(db, "SELECT array_agg(epoch) FROM oo_ml.feature_history") == [0]


def test_first_decision_under_way(db: Engine) -> None:
    """An erasure waits for the first decision of a new user, who has no state to lock yet, and erases it."""
    with ThreadPoolExecutor(1) as other:
        with open_session(db) as first:
            score(first, scores(1, 1, ["ada"]))
            gone = other.submit(erase_users, db, "ada")
            wait_until_blocked(db, 1)
            first.commit()
        assert gone.result() == [{**NO_ROWS, "feature_history": 1, "policy_state": 1}]
    assert rows_of(db, "ada") == {}


def test_lock_order(db: Engine) -> None:
    """A decision during the deletion of rows waits for the state, and holds no lock that the erasure needs."""
    with writing(db) as connection:
        policy_state.lock_or_create_states(connection, {StateKey("ada", LINUCB): FRESH[LINUCB]})
    with ThreadPoolExecutor() as others, open_session(db) as connection:
        erase(connection, ["ada"])
        waiting = others.submit(teach, db, "ada")
        wait_until_blocked(db, 1)
        connection.commit()
        waiting.result()
    assert scalar(db, "SELECT version FROM oo_ml.policy_state") == 1


# During a step of counting


@contextmanager
def hold_counting(db: Engine) -> Iterator[None]:
    """Keep a step of counting open until the block ends."""
    with writing(db) as connection:
        [step] = daily_sums.count(connection, [CountCommand(datetime.now(UTC))])
        assert not step.is_busy
        yield


def test_counting_under_way(serve: Serve, db: Engine) -> None:
    """An erasure waits for counting, past the lock timeout; the user's decisions and rewards do not wait."""
    service = serve(lock_timeout=0.1)
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with hold_counting(db):
            gone = clients.submit(service.client.delete, "/users/ada")
            until(lambda: gone.done() or has_blocked(db, 0.3))
            assert not gone.done()
            assert service.client.post("/score", json=calls.score()).status_code == 200
            assert service.client.post("/reward", json=calls.reward()).status_code == 200
            assert not gone.done()
        assert gone.result().json()["erased"] == {
            **NO_ROWS,
            "feature_history": 2,
            "policy_state": 1,
            "reward_ledger": 1,
        }
    assert rows_of(db, "ada") == {}


def test_long_timeout_during_counting(serve: Serve, db: Engine) -> None:
    """If counting takes longer than OO_ML_LONG_TIMEOUT, an erasure gets a 503 and erases nothing."""
    service = serve(lock_timeout=0.1, long_timeout=0.5)
    service.client.post("/score", json=calls.score())
    with hold_counting(db):
        answer = service.client.delete("/users/ada")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_timeout")
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 1


def test_several_erasures_during_counting(serve: Serve, db: Engine) -> None:
    """Erasures of the same and of other users run one by one after counting; decisions do not wait."""
    service = serve(lock_timeout=0.1, long_workers=4)
    users = ["ada", "ben", "ada", "cy"]
    for user in set(users):
        service.client.post("/score", json=calls.score(user))
    with ThreadPoolExecutor() as clients:
        with hold_counting(db):
            gone = [clients.submit(service.client.delete, f"/users/{user}") for user in users]
            wait_until_blocked(db, len(users))
            for user in set(users):
                assert service.client.post("/score", json=calls.score(user)).status_code == 200
        totals = sorted((user, call.result().json()["total"]) for user, call in zip(users, gone, strict=True))
    assert totals == [("ada", 0), ("ada", 3), ("ben", 3), ("cy", 3)]


def test_lock_timeout_of_a_state(serve: Serve, db: Engine) -> None:
    """An erasure waits for a user's state no longer than OO_ML_LOCK_TIMEOUT, unlike for counting."""
    service = serve(lock_timeout=0.1, long_timeout=600)
    service.client.post("/score", json=calls.score())
    with holding_state(db, "ada", LINUCB):
        answer = service.client.delete("/users/ada")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_timeout")
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 1


def test_counting_during_an_erasure(service: Service, db: Engine, database_url: str) -> None:
    """Counting does not wait for an erasure, not even for one that waits for a user's state."""
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with holding_state(db, "ada", LINUCB):
            gone = clients.submit(service.client.delete, "/users/ada")
            wait_until_blocked(db, 1)
            assert count(database_url) == Days(0, is_busy=True)
        assert gone.result().status_code == 200
