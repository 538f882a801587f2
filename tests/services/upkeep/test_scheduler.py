"""Monthly partitions of feature_history, and the upkeep tasks of a running service."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import LINUCB
from oo_ml.errors import DatabaseRefusedError, DatabaseTimeoutError
from oo_ml.services.database import single_worker
from oo_ml.services.upkeep import scheduler
from oo_ml.services.upkeep.scheduler import Months, keep_months
from oo_ml.storage.schema import migrate, partitions
from oo_ml.storage.schema.partitions import MOVABLE, month_of
from tests import calls
from tests.conftest import Serve, make_settings
from tests.faults.proxy import Proxy
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.migrations.rows import insert_decision, partition_of, uuid7
from tests.serving import serving
from tests.sessions import writing
from tests.superuser import tamper
from tests.waiting import until

NOW = datetime.now(UTC)
OWNER = "run `oo-ml db grant-service` for this role, or `oo-ml upkeep` as the owner of the tables"
CROWDED = (
    "feature_history gets no partition for {:%Y-%m}, because moving its decisions out of feature_history_default would"
    " block calls: run `oo-ml db upgrade` as the owner at a quiet time"
)
QUICK: dict[str, Any] = {"upkeep_interval": 0.1, "reward_wait": 0.1, "default_reward": -0.5}


def keep_once(
    url: str, *, now: datetime = NOW, retention: int | None = None, movable: int = MOVABLE, is_patient: bool = False
) -> Months:
    """Run `keep_months` as upkeep does."""
    settings = make_settings(history_retention=retention)
    with single_worker(settings, url) as worker:
        return asyncio.run(keep_months(worker, settings, now, movable=movable, is_patient=is_patient))


def get_messages(months: Months) -> list[tuple[type[Exception], str]]:
    """Return the problems."""
    return [(type(problem), problem.message) for problem in months.problems]


def get_name(month: datetime) -> str:
    """Return the partition of a month."""
    return f"feature_history_{month:%Y_%m}"


def list_attached(db: Engine) -> list[str]:
    """Return the attached partitions."""
    with writing(db) as connection:
        return [get_name(month) for month in partitions.layout(connection).months]


def run(db: Engine, statement: str) -> None:
    """Run a statement as superuser."""
    tamper(db, statement)


def read_reward(db: Engine) -> object:
    """Return the reward of the only decision, and its kind."""
    return scalar(db, "SELECT concat_ws(' ', reward, reward_kind) FROM oo_ml.feature_history")


def test_months_made_ahead(database_url: str, db: Engine) -> None:
    """Partitions exist for the current month and the next three; existing ones are left alone."""
    assert keep_once(database_url) == Months([], [], [], [])
    later = month_of(NOW, 2)
    assert keep_once(database_url, now=later) == Months(
        [get_name(month_of(NOW, 4)), get_name(month_of(NOW, 5))], [], [], []
    )
    assert list_attached(db) == [get_name(month_of(NOW, ahead)) for ahead in range(6)]


def test_decisions_move_out_of_the_default_partition(database_url: str, postgresql: psycopg.Connection[Any]) -> None:
    """A decision in the default partition moves into its month once upkeep makes it, without an alarm."""
    later = month_of(NOW, 7)
    decision_id = uuid7(later)
    insert_decision(postgresql, decision_id)
    assert partition_of(postgresql, decision_id) == "feature_history_default"
    postgresql.rollback()
    assert keep_once(database_url, now=later).alarms == []
    assert partition_of(postgresql, decision_id) == get_name(later)


def test_detached_months(database_url: str, db: Engine, postgresql: psycopg.Connection[Any]) -> None:
    """Months before retention are detached as tables that keep their rows and the rights of their readers."""
    role = f"Reader of {postgresql.info.dbname}"
    run(db, f'CREATE ROLE "{role}"')
    try:
        run(db, f'GRANT SELECT, DELETE ON oo_ml.feature_history TO "{role}"')
        run(db, "GRANT SELECT ON oo_ml.feature_history TO PUBLIC")
        run(db, "SELECT oo_ml.create_feature_history_months('2031-05-01Z', 10)")
        insert_decision(postgresql, uuid7(datetime(2031, 7, 31, 23, 59, 59, tzinfo=UTC)))
        months = keep_once(database_url, now=datetime(2031, 11, 23, tzinfo=UTC), retention=3)
        gone = [
            *(get_name(month_of(NOW, ahead)) for ahead in range(4)),
            *(f"feature_history_2031_0{n}" for n in (5, 6, 7)),
        ]
        assert months == Months([], gone, [], [])
        assert list_attached(db)[0] == "feature_history_2031_08"
        assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 0
        assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history_2031_07") == 1
        rights = "SELECT has_table_privilege(:role, 'oo_ml.feature_history_2031_07', :privilege)"
        granted = [scalar(db, rights, role=role, privilege=right) for right in ("SELECT", "DELETE", "UPDATE")]
        assert granted == [True, True, False]
        assert scalar(db, "SELECT has_table_privilege('oo_ml', 'oo_ml.feature_history_2031_07', 'SELECT')") is True
        done_until = "SELECT done_until FROM oo_ml.upkeep WHERE task = 'retention'"
        assert scalar(db, done_until) == datetime(2031, 8, 1, tzinfo=UTC)
    finally:
        run(db, f'DROP OWNED BY "{role}"')
        run(db, f'DROP ROLE "{role}"')


@pytest.mark.parametrize(("retention", "detached"), [(None, []), (2, []), (1, [0])])
def test_retention(database_url: str, db: Engine, retention: int | None, detached: list[int]) -> None:
    """The current month and `history_retention` months before it stay attached."""
    now = month_of(NOW, 3) - timedelta(microseconds=1)
    assert keep_once(database_url, now=now, retention=retention).detached == [
        get_name(month_of(NOW, n)) for n in detached
    ]
    assert (scalar(db, "SELECT done_until FROM oo_ml.upkeep WHERE task = 'retention'") is None) == (not detached)


def test_locked_table(database_url: str, db: Engine) -> None:
    """If the table is locked, the service gives up at once, whatever OO_ML_LOCK_TIMEOUT is, and retries later."""
    now = month_of(NOW, 1)
    with db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        months = keep_once(database_url, now=now, retention=1)
        assert months.made == []
        [problem] = months.problems
        assert isinstance(problem, DatabaseTimeoutError)
    assert keep_once(database_url, now=now, retention=1).made == [get_name(month_of(NOW, 4))]


def test_command_waits_for_a_locked_table(database_url: str, db: Engine) -> None:
    """The command waits for the lock on the table, up to OO_ML_LOCK_TIMEOUT."""
    run(db, f"DROP TABLE oo_ml.{get_name(month_of(NOW, 3))}")
    with ThreadPoolExecutor(1) as elsewhere, db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        command = elsewhere.submit(keep_once, database_url, is_patient=True)
        # A service would have given up by now.
        assert wait([command], timeout=0.5).not_done
        reader.rollback()
        assert command.result() == Months([get_name(month_of(NOW, 3))], [], [], [])


def test_month_with_many_waiting_decisions(database_url: str, db: Engine, postgresql: psycopg.Connection[Any]) -> None:
    """If making a month would move many decisions, upkeep makes the other months and leaves it to the owner."""
    later = month_of(NOW, 4)
    for number in range(4):
        insert_decision(postgresql, uuid7(later, number))
    months = keep_once(database_url, now=later, movable=3)
    assert months.made == [get_name(month_of(later, ahead)) for ahead in (1, 2, 3)]
    assert (months.problems, months.alarms) == ([], [CROWDED.format(later)])
    assert partition_of(postgresql, uuid7(later)) == "feature_history_default"
    postgresql.rollback()
    # Upkeep does not try to make the crowded month, so a locked table causes no problem.
    with db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        assert keep_once(database_url, now=later, movable=3).problems == []
    assert keep_once(database_url, now=later, movable=4).made == [get_name(later)]
    assert keep_once(database_url, now=later, movable=3) == Months([], [], [], [])


def test_crowded_default_partition(database_url: str, db: Engine, postgresql: psycopg.Connection[Any]) -> None:
    """If the default partition has many rows, which PostgreSQL would scan, making a month is left to the owner."""
    missing = month_of(NOW, 3)
    run(db, f"DROP TABLE oo_ml.{get_name(missing)}")
    for number in range(11):
        insert_decision(postgresql, uuid7(datetime(2001, 5, 31, tzinfo=UTC), number))
    assert keep_once(database_url, movable=1) == Months([], [], [], [CROWDED.format(missing)])
    migrate.upgrade(database_url, make_settings())
    assert keep_once(database_url, movable=1) == Months([], [], [], [])


def test_missing_row_of_retention(database_url: str, db: Engine) -> None:
    """A detach inserts the upkeep row of retention if a restored database lacks it."""
    run(db, "DELETE FROM oo_ml.upkeep")
    assert keep_once(database_url, now=month_of(NOW, 2), retention=1).detached == [get_name(month_of(NOW, 0))]
    done_until = "SELECT done_until FROM oo_ml.upkeep WHERE task = 'retention'"
    assert scalar(db, done_until) == month_of(NOW, 1)


def test_months_made_concurrently(db: Engine) -> None:
    """The second of two transactions that make a month waits for the first and makes nothing."""
    run(db, f"DROP TABLE oo_ml.{get_name(month_of(NOW, 3))}")
    make = text("SELECT oo_ml.create_feature_history_months(now(), 4)")
    with db.connect() as first:
        assert first.scalars(make).all() == [get_name(month_of(NOW, 3))]

        async def second() -> list[str]:
            other = asyncio.create_task(asyncio.to_thread(_make_ahead, db))
            await asyncio.to_thread(wait_until_blocked, db, 1)
            first.commit()
            return await other

        assert asyncio.run(second()) == []


def _make_ahead(db: Engine) -> list[str]:
    with writing(db) as connection:
        return partitions.make_ahead(connection, NOW)


def test_role_without_rights(db: Engine) -> None:
    """A role without rights reports a problem if there is something to do, and an alarm if a month is missing soon."""
    with revoke_rights(db) as url:
        assert keep_once(url) == Months([], [], [], [])
        run(db, f"DROP TABLE oo_ml.{get_name(month_of(NOW, 3))}")
        making = (DatabaseRefusedError, f"making months of feature_history: this role lacks the rights; {OWNER}")
        detaching = (DatabaseRefusedError, f"detaching months of feature_history: this role lacks the rights; {OWNER}")
        months = keep_once(url)
        assert (get_messages(months), months.alarms) == ([making], [])
        run(db, f"DROP TABLE oo_ml.{get_name(month_of(NOW, 1))}")
        months = keep_once(url)
        assert get_messages(months) == [making]
        assert months.alarms == [f"feature_history has no partition for {month_of(NOW, 1):%Y-%m}: {OWNER}"]
        months = keep_once(url, now=month_of(NOW, 2), retention=1)
        assert get_messages(months) == [making, detaching]


def test_alarm_for_decisions_without_a_month(
    database_url: str, db: Engine, postgresql: psycopg.Connection[Any]
) -> None:
    """Decisions of a forgotten month raise an alarm with the statement that repairs it."""
    forgotten, later = month_of(NOW, 5), month_of(NOW, 6)
    insert_decision(postgresql, uuid7(forgotten))
    assert keep_once(database_url, now=NOW).alarms == []
    keep_once(database_url, now=later)
    statement = f"SELECT oo_ml.create_feature_history_months('{forgotten:%Y-%m-%d}Z', 1)"
    alarm = (
        f"decisions of {forgotten:%Y-%m} lie in feature_history_default: as the owner of feature_history run"
        f" {statement}"
    )
    assert keep_once(database_url, now=later).alarms == [alarm]
    with revoke_rights(db) as url:
        assert keep_once(url, now=later).alarms == [alarm]
    run(db, statement)
    assert keep_once(database_url, now=later).alarms == []


def test_no_alarm_for_old_ids(database_url: str, postgresql: psycopg.Connection[Any]) -> None:
    """A decision id from before the first month raises no alarm."""
    insert_decision(postgresql, uuid7(datetime(2001, 5, 31, tzinfo=UTC)))
    assert keep_once(database_url).alarms == []


def test_default_rewards_in_a_service(serve: Serve, db: Engine) -> None:
    """A running service gives default rewards when the wait is over."""
    client = serve(**QUICK).client
    client.post("/score", json=calls.score())
    until(lambda: read_reward(db) == "-0.5 default")
    client.post("/reward", json=calls.reward(value=0.5))
    assert read_reward(db) == "0.5 amend"


def test_upkeep_disabled_in_a_service(serve: Serve, db: Engine) -> None:
    """With OO_ML_UPKEEP_INTERVAL=0 a service runs no upkeep task."""
    serve(upkeep_interval=0, reward_wait=0.1).client.post("/score", json=calls.score())
    assert scalar(db, "SELECT count(ran_at) FROM oo_ml.upkeep") == 0


def test_months_in_a_service(serve: Serve, db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A running service makes months and logs an alarm in every run while it lasts."""
    missing = get_name(month_of(NOW, 3))
    run(db, f"DROP TABLE oo_ml.{missing}")
    with caplog.at_level(logging.INFO, "oo_ml.services.upkeep.scheduler"):
        serve(**QUICK)
        until(lambda: missing in list_attached(db))
        run(db, f"ALTER TABLE oo_ml.feature_history DETACH PARTITION oo_ml.{get_name(month_of(NOW, 1))}")
        until(lambda: len([one for one in caplog.records if one.levelno == logging.ERROR]) > 2)
    said = [record.message for record in caplog.records]
    assert f"made partitions {missing}" in said
    assert f"feature_history has no partition for {month_of(NOW, 1):%Y-%m}: {OWNER}" in said


def test_tasks_run_concurrently(database_url: str, db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Months are made while default rewards are still running, and both tasks end with the service."""
    came_and_went: list[str] = []

    async def endless(*_: object) -> None:
        came_and_went.append("came")
        try:
            await asyncio.Event().wait()
        finally:
            came_and_went.append("went")

    monkeypatch.setattr(scheduler, "give_default_rewards", endless)
    with serving(make_settings(**QUICK), database_url):
        until(lambda: came_and_went == ["came"])
        run(db, f"DROP TABLE oo_ml.{get_name(month_of(NOW, 3))}")
        until(lambda: get_name(month_of(NOW, 3)) in list_attached(db))
        assert came_and_went == ["came"]
    assert came_and_went == ["came", "went"]


def test_service_without_rights(db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A service without rights to make months logs the problem once and still gives default rewards."""
    run(db, f"DROP TABLE oo_ml.{get_name(month_of(NOW, 3))}")
    with revoke_rights(db) as url, serving(make_settings(**QUICK), url) as service:
        for user in ("ada", "ben"):
            service.client.post("/score", json=calls.score(user))
            until(lambda: scalar(db, "SELECT count(*) FROM oo_ml.feature_history WHERE reward IS NULL") == 0)
    refused = [record for record in caplog.records if "lacks the rights" in record.message]
    assert [record.levelno for record in refused] == [logging.ERROR]


def test_service_stops_during_upkeep(database_url: str, db: Engine) -> None:
    """A service stops within its time limits while an upkeep step waits for a row."""
    settings = make_settings(**QUICK, lock_timeout=0.5, long_timeout=30)
    with ExitStack() as until_stopped:
        with serving(settings, database_url) as service:
            # Hold the task, so that no default reward is given before the user's state is locked.
            with writing(db) as other:
                other.execute(text("SELECT FROM oo_ml.upkeep WHERE task = 'default-rewards' FOR UPDATE"))
                service.client.post("/score", json=calls.score())
                until_stopped.enter_context(holding_state(db, "ada", LINUCB))
            wait_until_blocked(db, 1)
            began = time.monotonic()
        assert time.monotonic() - began < 10
    assert read_reward(db) == ""


def test_upkeep_after_an_outage(database_url: str, db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """If the database is away at the start, each task logs one warning and runs once the database is back."""
    with start_without_database(database_url) as (url, appear), serving(make_settings(**QUICK), url) as service:
        until(lambda: len([one for one in caplog.records if "connection refused" in one.message.lower()]) > 6)
        appear()
        until(lambda: service.client.post("/score", json=calls.score()).status_code == 200)
        until(lambda: read_reward(db) == "-0.5 default")
    said = [record for record in caplog.records if record.name == "oo_ml.services.upkeep.scheduler"]
    assert {record.levelno for record in said} == {logging.WARNING}
    assert sorted(record.message for record in said) == [
        f"upkeep ({task}) will be retried: The database can't be reached"
        for task in ("days", "default rewards", "months")
    ]


def test_exception_in_a_task(
    serve: Serve, db: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is logged, and the task runs again."""
    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "keep_months", None)
        patch.setattr(scheduler, "give_default_rewards", None)
        serve(**QUICK).client.post("/score", json=calls.score())
        for task in ("months", "default rewards"):
            until(lambda task=task: caplog.messages.count(f"upkeep ({task}) failed") > 1)  # type: ignore[misc]
    until(lambda: read_reward(db) == "-0.5 default")


def test_upkeep_before_migration(empty_database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Upkeep starts to work once the database is migrated."""
    with serving(make_settings(**QUICK), empty_database_url) as service:
        until(lambda: any("has not been migrated" in record.message for record in caplog.records))
        migrate.upgrade(empty_database_url, make_settings())
        assert service.client.post("/score", json=calls.score()).status_code == 200
        with psycopg.connect(empty_database_url, autocommit=True) as connection:
            kinds = "SELECT reward_kind FROM oo_ml.feature_history"
            until(lambda: connection.execute(kinds).fetchall() == [("default",)])


@contextmanager
def start_without_database(database_url: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield an address without a listener, and a function that makes the database reachable there."""
    info = psycopg.conninfo.conninfo_to_dict(database_url)
    with socket.socket() as listener, ThreadPoolExecutor(1) as thread:
        listener.bind(("127.0.0.1", 0))
        proxy = Proxy(f"{info['host']}/.s.PGSQL.{info['port']}", listener)

        def appear() -> None:
            listener.listen()
            thread.submit(proxy.run)

        yield f"postgresql://{info['user']}@127.0.0.1:{proxy.port}/{info['dbname']}", appear
        proxy.drop()
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def revoke_rights(db: Engine) -> Iterator[str]:
    """Yield the address of the service's role, without rights to make months or to read the default partition."""
    rights = (
        "{} EXECUTE ON ALL FUNCTIONS IN SCHEMA oo_ml {} service",
        "{} SELECT ON oo_ml.feature_history_default {} service",
    )
    for right in rights:
        run(db, right.format("REVOKE", "FROM"))
    yield db.url.set(drivername="postgresql").render_as_string()
    for right in rights:
        run(db, right.format("GRANT", "TO"))
