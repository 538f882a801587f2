"""Months of the history that come and go, and the service that sees to it, and to default rewards, by itself."""

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
from tests.superuser import tamper
from tests.waiting import until

NOW = datetime.now(UTC)
OWNER = "run `oo-ml db grant-service` for this role, or `oo-ml upkeep` as the owner of the tables"
CROWDED = (
    "feature_history gets no partition for {:%Y-%m} while calls go on, too many decisions lie in"
    " feature_history_default: run `oo-ml db upgrade` as its owner at a quiet hour"
)
QUICK: dict[str, Any] = {"upkeep_interval": 0.1, "reward_wait": 0.1, "default_reward": -0.5}


def keep(
    url: str, *, now: datetime = NOW, retention: int | None = None, movable: int = MOVABLE, is_patient: bool = False
) -> Months:
    """Look after the months, as upkeep does."""
    settings = make_settings(history_retention=retention)
    with single_worker(settings, url) as worker:
        return asyncio.run(keep_months(worker, settings, now, movable=movable, is_patient=is_patient))


def messages(months: Months) -> list[tuple[type[Exception], str]]:
    """What could not be done."""
    return [(type(problem), problem.message) for problem in months.problems]


def name(month: datetime) -> str:
    """The table of a month."""
    return f"feature_history_{month:%Y_%m}"


def attached(db: Engine) -> list[str]:
    """The months that the history has."""
    with db.begin() as connection:
        return [name(month) for month in partitions.layout(connection).months]


def run(db: Engine, statement: str) -> None:
    """Do something to the tables."""
    tamper(db, statement)


def reward_of(db: Engine) -> object:
    """The reward of the only decision, and its kind."""
    return scalar(db, "SELECT concat_ws(' ', reward, reward_kind) FROM oo_ml.feature_history")


def test_months_are_made_before_they_are_needed(database_url: str, db: Engine) -> None:
    """This one and three more, whatever the time of the year; those that are there are left alone."""
    assert keep(database_url) == Months([], [], [], [])
    later = month_of(NOW, 2)
    assert keep(database_url, now=later) == Months([name(month_of(NOW, 4)), name(month_of(NOW, 5))], [], [], [])
    assert attached(db) == [name(month_of(NOW, ahead)) for ahead in range(6)]


def test_decisions_that_came_before_their_month_move_into_it(
    database_url: str, postgresql: psycopg.Connection[Any]
) -> None:
    """The default partition took them in meanwhile; the months between are made, and nobody is alarmed."""
    later = month_of(NOW, 7)
    decision_id = uuid7(later)
    insert_decision(postgresql, decision_id)
    assert partition_of(postgresql, decision_id) == "feature_history_default"
    postgresql.rollback()
    assert keep(database_url, now=later).alarms == []
    assert partition_of(postgresql, decision_id) == name(later)


def test_months_past_retention_are_detached_with_their_rights(
    database_url: str, db: Engine, postgresql: psycopg.Connection[Any]
) -> None:
    """Whole months before the ones that are kept; the table stays, for those who might read the history."""
    role = f"Reader of {postgresql.info.dbname}"
    run(db, f'CREATE ROLE "{role}"')
    try:
        run(db, f'GRANT SELECT, DELETE ON oo_ml.feature_history TO "{role}"')
        run(db, "GRANT SELECT ON oo_ml.feature_history TO PUBLIC")
        run(db, "SELECT oo_ml.create_feature_history_months('2031-05-01Z', 10)")
        insert_decision(postgresql, uuid7(datetime(2031, 7, 31, 23, 59, 59, tzinfo=UTC)))
        months = keep(database_url, now=datetime(2031, 11, 23, tzinfo=UTC), retention=3)
        gone = [*(name(month_of(NOW, ahead)) for ahead in range(4)), *(f"feature_history_2031_0{n}" for n in (5, 6, 7))]
        assert months == Months([], gone, [], [])
        assert attached(db)[0] == "feature_history_2031_08"
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
def test_a_month_is_kept_for_as_long_as_it_should_be(
    database_url: str, db: Engine, retention: int | None, detached: list[int]
) -> None:
    """Besides the one that is going on; and where nothing is detached, nothing is said to be."""
    now = month_of(NOW, 3) - timedelta(microseconds=1)
    assert keep(database_url, now=now, retention=retention).detached == [name(month_of(NOW, n)) for n in detached]
    assert (scalar(db, "SELECT done_until FROM oo_ml.upkeep WHERE task = 'retention'") is None) == (not detached)


def test_a_table_in_use_is_left_for_the_next_time(database_url: str, db: Engine) -> None:
    """Whoever waits for a whole table keeps others waiting: this gives up at once, whatever OO_ML_LOCK_TIMEOUT says."""
    now = month_of(NOW, 1)
    with db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        months = keep(database_url, now=now, retention=1)
        assert months.made == []
        [problem] = months.problems
        assert isinstance(problem, DatabaseTimeoutError)
    assert keep(database_url, now=now, retention=1).made == [name(month_of(NOW, 4))]


def test_a_command_waits_for_a_table_in_use(database_url: str, db: Engine) -> None:
    """Nobody but its caller waits for a command to end: it takes its turn, within OO_ML_LOCK_TIMEOUT."""
    run(db, f"DROP TABLE oo_ml.{name(month_of(NOW, 3))}")
    with ThreadPoolExecutor(1) as elsewhere, db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        command = elsewhere.submit(keep, database_url, is_patient=True)
        # Longer than the service would.
        assert wait([command], timeout=0.5).not_done
        reader.rollback()
        assert command.result() == Months([name(month_of(NOW, 3))], [], [], [])


def test_a_month_that_many_decisions_wait_for_is_left_to_its_owner(
    database_url: str, db: Engine, postgresql: psycopg.Connection[Any]
) -> None:
    """Moving them would keep every call waiting: nothing is locked for it, the others are made, `db upgrade` helps."""
    later = month_of(NOW, 4)
    for number in range(4):
        insert_decision(postgresql, uuid7(later, number))
    months = keep(database_url, now=later, movable=3)
    assert months.made == [name(month_of(later, ahead)) for ahead in (1, 2, 3)]
    assert (months.problems, months.alarms) == ([], [CROWDED.format(later)])
    assert partition_of(postgresql, uuid7(later)) == "feature_history_default"
    postgresql.rollback()
    # Not even with a table in use is it tried.
    with db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        assert keep(database_url, now=later, movable=3).problems == []
    assert keep(database_url, now=later, movable=4).made == [name(later)]
    assert keep(database_url, now=later, movable=3) == Months([], [], [], [])


def test_a_crowded_default_partition_is_left_to_its_owner(
    database_url: str, db: Engine, postgresql: psycopg.Connection[Any]
) -> None:
    """Whoever makes a month has PostgreSQL read all that lies there; decisions with old ids of a client do too."""
    missing = month_of(NOW, 3)
    run(db, f"DROP TABLE oo_ml.{name(missing)}")
    for number in range(11):
        insert_decision(postgresql, uuid7(datetime(2001, 5, 31, tzinfo=UTC), number))
    assert keep(database_url, movable=1) == Months([], [], [], [CROWDED.format(missing)])
    migrate.upgrade(database_url, make_settings())
    assert keep(database_url, movable=1) == Months([], [], [], [])


def test_a_detach_makes_the_row_that_it_is_written_down_in(database_url: str, db: Engine) -> None:
    """A restored database may come without it."""
    run(db, "DELETE FROM oo_ml.upkeep")
    assert keep(database_url, now=month_of(NOW, 2), retention=1).detached == [name(month_of(NOW, 0))]
    done_until = "SELECT done_until FROM oo_ml.upkeep WHERE task = 'retention'"
    assert scalar(db, done_until) == month_of(NOW, 1)


def test_two_that_make_a_month_at_once_make_one(db: Engine) -> None:
    """The second waits for the first, and finds it made."""
    run(db, f"DROP TABLE oo_ml.{name(month_of(NOW, 3))}")
    make = text("SELECT oo_ml.create_feature_history_months(now(), 4)")
    with db.connect() as first:
        assert first.scalars(make).all() == [name(month_of(NOW, 3))]

        async def second() -> list[str]:
            other = asyncio.create_task(asyncio.to_thread(_made, db))
            await asyncio.to_thread(wait_until_blocked, db, 1)
            first.commit()
            return await other

        assert asyncio.run(second()) == []


def _made(db: Engine) -> list[str]:
    with db.begin() as connection:
        return partitions.make_ahead(connection, NOW)


def test_a_role_that_may_not_make_months_says_who_may(db: Engine) -> None:
    """Not while all is well; then what could not be done; and an alarm when it can't wait any longer."""
    with clerk(db) as url:
        assert keep(url) == Months([], [], [], [])
        run(db, f"DROP TABLE oo_ml.{name(month_of(NOW, 3))}")
        making = (DatabaseRefusedError, f"making months of feature_history: this role may not do it; {OWNER}")
        detaching = (DatabaseRefusedError, f"detaching months of feature_history: this role may not do it; {OWNER}")
        months = keep(url)
        assert (messages(months), months.alarms) == ([making], [])
        run(db, f"DROP TABLE oo_ml.{name(month_of(NOW, 1))}")
        months = keep(url)
        assert messages(months) == [making]
        assert months.alarms == [f"feature_history has no partition for {month_of(NOW, 1):%Y-%m}: {OWNER}"]
        months = keep(url, now=month_of(NOW, 2), retention=1)
        assert messages(months) == [making, detaching]


def test_decisions_without_a_month_are_an_alarm(
    database_url: str, db: Engine, postgresql: psycopg.Connection[Any]
) -> None:
    """A month that was forgotten: the statement said is the remedy; who may not look into the partition sees it too."""
    forgotten, later = month_of(NOW, 5), month_of(NOW, 6)
    insert_decision(postgresql, uuid7(forgotten))
    assert keep(database_url, now=NOW).alarms == []
    keep(database_url, now=later)
    statement = f"SELECT oo_ml.create_feature_history_months('{forgotten:%Y-%m-%d}Z', 1)"
    alarm = (
        f"decisions of {forgotten:%Y-%m} lie in feature_history_default: as the owner of feature_history run"
        f" {statement}"
    )
    assert keep(database_url, now=later).alarms == [alarm]
    with clerk(db) as url:
        assert keep(url, now=later).alarms == [alarm]
    run(db, statement)
    assert keep(database_url, now=later).alarms == []


def test_an_old_id_of_a_client_is_no_alarm(database_url: str, postgresql: psycopg.Connection[Any]) -> None:
    """Its month is past retention or before the service began; nobody forgot it."""
    insert_decision(postgresql, uuid7(datetime(2001, 5, 31, tzinfo=UTC)))
    assert keep(database_url).alarms == []


def test_a_service_gives_default_rewards_by_itself(serve: Serve, db: Engine) -> None:
    """Soon after the wait is over."""
    client = serve(**QUICK).client
    client.post("/score", json=calls.score())
    until(lambda: reward_of(db) == "-0.5 default")
    client.post("/reward", json=calls.reward(value=0.5))
    assert reward_of(db) == "0.5 amend"


def test_a_service_that_is_told_not_to_does_nothing(serve: Serve, db: Engine) -> None:
    """`oo-ml upkeep` is for that, then."""
    serve(upkeep_interval=0, reward_wait=0.1).client.post("/score", json=calls.score())
    assert scalar(db, "SELECT count(ran_at) FROM oo_ml.upkeep") == 0


def test_a_service_makes_months_and_alarms(serve: Serve, db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """What it can do it does; what it can't it says, again and again."""
    missing = name(month_of(NOW, 3))
    run(db, f"DROP TABLE oo_ml.{missing}")
    with caplog.at_level(logging.INFO, "oo_ml.services.upkeep.scheduler"):
        serve(**QUICK)
        until(lambda: missing in attached(db))
        run(db, f"ALTER TABLE oo_ml.feature_history DETACH PARTITION oo_ml.{name(month_of(NOW, 1))}")
        until(lambda: len([one for one in caplog.records if one.levelno == logging.ERROR]) > 2)
    said = [record.message for record in caplog.records]
    assert f"made partitions {missing}" in said
    assert f"feature_history has no partition for {month_of(NOW, 1):%Y-%m}: {OWNER}" in said


def test_a_long_backlog_of_defaults_delays_no_month(
    database_url: str, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two are at it side by side, and both end with the service."""
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
        run(db, f"DROP TABLE oo_ml.{name(month_of(NOW, 3))}")
        until(lambda: name(month_of(NOW, 3)) in attached(db))
        assert came_and_went == ["came"]
    assert came_and_went == ["came", "went"]


def test_a_service_without_rights_goes_on_and_says_so_once(db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Default rewards need no more than a service has."""
    run(db, f"DROP TABLE oo_ml.{name(month_of(NOW, 3))}")
    with clerk(db) as url, serving(make_settings(**QUICK), url) as service:
        for user in ("ada", "ben"):
            service.client.post("/score", json=calls.score(user))
            until(lambda: scalar(db, "SELECT count(*) FROM oo_ml.feature_history WHERE reward IS NULL") == 0)
    refused = [record for record in caplog.records if "may not do it" in record.message]
    assert [record.levelno for record in refused] == [logging.ERROR]


def test_a_service_stops_while_upkeep_waits_for_a_row(database_url: str, db: Engine) -> None:
    """What it is at ends within its own limits; nothing new is begun."""
    settings = make_settings(**QUICK, lock_timeout=0.5, long_timeout=30)
    with ExitStack() as until_stopped:
        with serving(settings, database_url) as service:
            # So that no default is given before the person's state is held.
            with db.begin() as other:
                other.execute(text("SELECT FROM oo_ml.upkeep WHERE task = 'default-rewards' FOR UPDATE"))
                service.client.post("/score", json=calls.score())
                until_stopped.enter_context(holding_state(db, "ada", LINUCB))
            wait_until_blocked(db, 1)
            began = time.monotonic()
        assert time.monotonic() - began < 10
    assert reward_of(db) == ""


def test_upkeep_comes_back_with_the_database(database_url: str, db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Away when the service starts: one warning a task, and everything is done when it is there."""
    with not_yet(database_url) as (url, appear), serving(make_settings(**QUICK), url) as service:
        until(lambda: len([one for one in caplog.records if "connection refused" in one.message.lower()]) > 6)
        appear()
        until(lambda: service.client.post("/score", json=calls.score()).status_code == 200)
        until(lambda: reward_of(db) == "-0.5 default")
    said = [record for record in caplog.records if record.name == "oo_ml.services.upkeep.scheduler"]
    assert {record.levelno for record in said} == {logging.WARNING}
    assert sorted(record.message for record in said) == [
        f"upkeep ({task}), which will be tried again: The database can't be reached"
        for task in ("days", "default rewards", "months")
    ]


def test_a_bug_in_one_task_does_not_end_upkeep(
    serve: Serve, db: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next run comes all the same."""
    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "keep_months", None)
        patch.setattr(scheduler, "give_default_rewards", None)
        serve(**QUICK).client.post("/score", json=calls.score())
        for task in ("months", "default rewards"):
            until(lambda task=task: caplog.messages.count(f"upkeep ({task}) failed") > 1)  # type: ignore[misc]
    until(lambda: reward_of(db) == "-0.5 default")


def test_upkeep_waits_for_its_schema(empty_database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It goes to work once the database is migrated."""
    with serving(make_settings(**QUICK), empty_database_url) as service:
        until(lambda: any("has not been migrated" in record.message for record in caplog.records))
        migrate.upgrade(empty_database_url, make_settings())
        assert service.client.post("/score", json=calls.score()).status_code == 200
        with psycopg.connect(empty_database_url, autocommit=True) as connection:
            kinds = "SELECT reward_kind FROM oo_ml.feature_history"
            until(lambda: connection.execute(kinds).fetchall() == [("default",)])


@contextmanager
def not_yet(database_url: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield an address at which nobody listens, and what lets the database appear there."""
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
def clerk(db: Engine) -> Iterator[str]:
    """The address for the service's role, as long as it may neither make months nor look into the default partition."""
    rights = (
        "{} EXECUTE ON ALL FUNCTIONS IN SCHEMA oo_ml {} service",
        "{} SELECT ON oo_ml.feature_history_default {} service",
    )
    for right in rights:
        run(db, right.format("REVOKE", "FROM"))
    yield db.url.set(drivername="postgresql").render_as_string()
    for right in rights:
        run(db, right.format("GRANT", "TO"))
