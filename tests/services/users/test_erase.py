"""Erasing: nothing is left anywhere of whom was erased, and nothing is missing of anybody else."""

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
from oo_ml.storage import states
from oo_ml.storage.states import StateKey
from oo_ml.storage.user_ranges import ALL_USERS
from tests import calls
from tests.conftest import Serve
from tests.gates import has_blocked, holding_state, scalar, wait_until_blocked
from tests.services.decisions.test_batches import score, scores
from tests.services.sample_users import detach_the_past, live, rows_of, rows_of_others, write
from tests.services.scenario import teach
from tests.services.upkeep.daily_sums.counting import count
from tests.serving import Service
from tests.waiting import until

ADA = {
    "feature_history": 7,
    "generations": 2,
    "policy_state": 2,
    "prompt_assignments": 1,
    "reward_ledger": 10,
    "tips": 2,
}
NOBODY = dict.fromkeys(ADA, 0)


def erased(db: Engine, *user_ids: str) -> list[dict[str, int]]:
    """Erase people."""
    with db.begin() as connection:
        return erase(connection, user_ids)


def test_nothing_is_left_in_any_table_and_nobody_else_loses_a_row(db: Engine) -> None:
    """Every column of every table is searched; adalbert's id begins with hers. A second time nothing is left to do."""
    live(db)
    teach(db, "adalbert")
    write(db, "adalbert", 9)
    with db.begin() as connection:
        score(connection, scores(1, 5, ["adalbert"]))
    before = rows_of_others(db, "ada")
    assert sum(map(len, rows_of(db, "adalbert").values())) > 10
    assert sum(map(len, rows_of(db, "ada").values())) == sum(ADA.values())
    assert erased(db, "ada") == [ADA]
    assert rows_of(db, "ada") == {}
    assert rows_of_others(db, "ada") == before
    assert erased(db, "ada") == [NOBODY]
    with db.begin() as connection:
        [report] = verify(connection, [ALL_USERS])
    assert report.difference is None


def test_several_people_are_told_apart(db: Engine) -> None:
    """Each has numbers of their own, and one who comes twice is gone by then."""
    live(db)
    zoe = {**NOBODY, "generations": 2, "policy_state": 1, "prompt_assignments": 1, "reward_ledger": 1, "tips": 2}
    assert erased(db, "zoë", "ada", "nobody", "ada") == [zoe, ADA, NOBODY, NOBODY]
    assert rows_of(db, "ben") != {}


def test_months_past_retention_are_erased_too(db: Engine) -> None:
    """They are tables of their own by then, which no statement of the service knows by name."""
    live(db)
    detach_the_past(db)
    before = rows_of_others(db, "ada")
    assert erased(db, "ada") == [{**ADA, "feature_history": 0, "feature_history_1970_01": 7}]
    assert rows_of(db, "ada") == {}
    assert rows_of_others(db, "ada") == before


def test_tables_of_other_applications_are_left_alone(db: Engine, postgresql: psycopg.Connection[Any]) -> None:
    """Only declared tables are erased, whatever others have a user_id: in public, and in schema oo_ml too."""
    live(db)
    for table in ("public.orders", "oo_ml.orders", "oo_ml.feature_history_of_mine"):
        postgresql.execute(f"CREATE TABLE {table} (user_id text, amount numeric)".encode())
        postgresql.execute(f"INSERT INTO {table} VALUES ('ada', 12.50)".encode())  # noqa: S608
    postgresql.execute("GRANT ALL ON ALL TABLES IN SCHEMA public, oo_ml TO PUBLIC")
    postgresql.commit()
    assert erased(db, "ada") == [ADA]
    assert {table: len(rows) for table, rows in rows_of(db, "ada").items()} == {
        "orders": 1,
        "oo_ml.orders": 1,
        "oo_ml.feature_history_of_mine": 1,
    }


def test_a_table_goes_before_those_that_it_refers_to(db: Engine) -> None:
    """A distributed database checks foreign keys after each part of the statement: tips before generations."""
    live(db)
    statements: list[str] = []
    event.listen(db, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    erased(db, "ada")
    [first, *_] = [statement for statement in statements if "DELETE FROM" in statement]
    assert first.index("DELETE FROM oo_ml.tips") < first.index("DELETE FROM oo_ml.generations")


def test_what_comes_in_between_is_found_by_another_look(db: Engine) -> None:
    """Tips are written for her without a lock: those that are there before the last look are erased, and counted."""
    write(db, "ada", 0)
    looks = 0

    def write_more(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal looks
        if "DELETE FROM" in statement:
            looks += 1
            if looks < 3:
                write(db, "ada", looks)

    event.listen(db, "after_cursor_execute", write_more)
    assert erased(db, "ada") == [{**NOBODY, "generations": 6, "tips": 6}]
    assert looks == 4
    assert rows_of(db, "ada") == {}


def test_a_reward_under_way_is_waited_for_and_erased(service: Service, db: Engine) -> None:
    """It is acknowledged, and gone."""
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with holding_state(db, "ada", LINUCB):
            rewarded = clients.submit(service.client.post, "/reward", json=calls.reward())
            wait_until_blocked(db, 1)
            gone = clients.submit(service.client.delete, "/users/ada")
            wait_until_blocked(db, 2)
        assert rewarded.result().status_code == 200
        assert gone.result().json()["erased"] == {
            **NOBODY,
            "feature_history": 1,
            "policy_state": 1,
            "reward_ledger": 1,
        }
    assert rows_of(db, "ada") == {}


@pytest.mark.parametrize(("path", "policy"), [("/score", LINUCB), ("/score/egreedy", EPSILON_GREEDY)])
def test_a_decision_that_waits_for_the_erasure_begins_a_new_life(
    service: Service, db: Engine, path: str, policy: str
) -> None:
    """It finds nobody, and is the first of an epoch 0."""
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


def test_the_first_decision_of_somebody_is_waited_for_and_erased(db: Engine) -> None:
    """They have no state yet that could be locked; it is there before the erasure looks all the same."""
    with ThreadPoolExecutor(1) as other:
        with db.connect() as first:
            score(first, scores(1, 1, ["ada"]))
            gone = other.submit(erased, db, "ada")
            wait_until_blocked(db, 1)
            first.commit()
        assert gone.result() == [{**NOBODY, "feature_history": 1, "policy_state": 1}]
    assert rows_of(db, "ada") == {}


def test_whom_it_erases_is_locked_first(db: Engine) -> None:
    """A decision that comes while rows are being deleted waits at the state, holding nothing that erasing needs."""
    with db.begin() as connection:
        states.lock_or_create_states(connection, [StateKey("ada", LINUCB)])
    with ThreadPoolExecutor() as others, db.connect() as connection:
        erase(connection, ["ada"])
        waiting = others.submit(teach, db, "ada")
        wait_until_blocked(db, 1)
        connection.commit()
        waiting.result()
    assert scalar(db, "SELECT version FROM oo_ml.policy_state") == 1


# Beside counting


@contextmanager
def counting(db: Engine) -> Iterator[None]:
    """Be in the middle of a step of counting, until the block ends."""
    with db.begin() as connection:
        [step] = daily_sums.count(connection, [CountCommand(datetime.now(UTC))])
        assert not step.is_busy
        yield


def test_counting_under_way(serve: Serve, db: Engine) -> None:
    """An erasure waits for it, past the lock timeout; the user's decisions and rewards don't wait for the erasure."""
    service = serve(lock_timeout=0.1)
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with counting(db):
            gone = clients.submit(service.client.delete, "/users/ada")
            until(lambda: gone.done() or has_blocked(db, 0.3))
            assert not gone.done()
            assert service.client.post("/score", json=calls.score()).status_code == 200
            assert service.client.post("/reward", json=calls.reward()).status_code == 200
            assert not gone.done()
        assert gone.result().json()["erased"] == {
            **NOBODY,
            "feature_history": 2,
            "policy_state": 1,
            "reward_ledger": 1,
        }
    assert rows_of(db, "ada") == {}


def test_counting_that_takes_longer_than_the_long_timeout(serve: Serve, db: Engine) -> None:
    """The erasure ends with a 503, and nothing is erased."""
    service = serve(lock_timeout=0.1, long_timeout=0.5)
    service.client.post("/score", json=calls.score())
    with counting(db):
        answer = service.client.delete("/users/ada")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_timeout")
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 1


def test_several_erasures_while_counting_is_under_way(serve: Serve, db: Engine) -> None:
    """They take their turns after it, whether they are of the same user or not; decisions go on until then."""
    service = serve(lock_timeout=0.1, long_workers=4)
    users = ["ada", "ben", "ada", "cy"]
    for user in set(users):
        service.client.post("/score", json=calls.score(user))
    with ThreadPoolExecutor() as clients:
        with counting(db):
            gone = [clients.submit(service.client.delete, f"/users/{user}") for user in users]
            wait_until_blocked(db, len(users))
            for user in set(users):
                assert service.client.post("/score", json=calls.score(user)).status_code == 200
        totals = sorted((user, call.result().json()["total"]) for user, call in zip(users, gone, strict=True))
    assert totals == [("ada", 0), ("ada", 3), ("ben", 3), ("cy", 3)]


def test_the_lock_timeout_of_a_users_row(serve: Serve, db: Engine) -> None:
    """An erasure waits for it no longer than other calls do, however long it may wait for counting."""
    service = serve(lock_timeout=0.1, long_timeout=600)
    service.client.post("/score", json=calls.score())
    with holding_state(db, "ada", LINUCB):
        answer = service.client.delete("/users/ada")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_timeout")
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 1


def test_an_erasure_under_way(service: Service, db: Engine, database_url: str) -> None:
    """Counting does not wait for it, even if it waits for a user."""
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor() as clients:
        with holding_state(db, "ada", LINUCB):
            gone = clients.submit(service.client.delete, "/users/ada")
            wait_until_blocked(db, 1)
            assert count(database_url) == Days(0, is_busy=True)
        assert gone.result().status_code == 200
