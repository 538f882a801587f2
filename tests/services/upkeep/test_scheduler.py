"""Upkeep tasks of a running service."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import LINUCB
from oo_ml.services.upkeep import scheduler
from oo_ml.storage.schema import migrate
from oo_ml.storage.schema.partitions import month_of
from tests import calls
from tests.conftest import Serve, make_settings
from tests.faults.proxy import Proxy
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.services.upkeep.months import NOW, OWNER, limited_service, list_partitions, partition_name, run
from tests.serving import serving
from tests.sessions import writing
from tests.waiting import until

TASKS = ("days", "default rewards", "months", "priors")
QUICK: dict[str, Any] = {"upkeep_interval": 0.1, "reward_wait": 0.1, "default_reward": -0.5}


def reward_of(db: Engine) -> object:
    """Return the reward of the only decision, and its kind."""
    return scalar(db, "SELECT concat_ws(' ', reward, reward_kind) FROM oo_ml.feature_history")


def test_default_rewards_in_a_service(serve: Serve, db: Engine) -> None:
    """A running service gives default rewards when the wait is over."""
    client = serve(**QUICK).client
    client.post("/score", json=calls.score())
    until(lambda: reward_of(db) == "-0.5 default")
    client.post("/reward", json=calls.reward(value=0.5))
    assert reward_of(db) == "0.5 amend"


def test_upkeep_disabled_in_a_service(serve: Serve, db: Engine) -> None:
    """With OO_ML_UPKEEP_INTERVAL=0 a service runs no upkeep task."""
    serve(upkeep_interval=0, reward_wait=0.1).client.post("/score", json=calls.score())
    assert scalar(db, "SELECT count(ran_at) FROM oo_ml.upkeep") == 0


def test_months_in_a_service(serve: Serve, db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A running service makes months and logs an alarm in every run while it lasts."""
    missing = partition_name(month_of(NOW, 3))
    run(db, f"DROP TABLE oo_ml.{missing}")
    with caplog.at_level(logging.INFO, "oo_ml.services.upkeep.scheduler"):
        serve(**QUICK)
        until(lambda: missing in list_partitions(db))
        run(db, f"ALTER TABLE oo_ml.feature_history DETACH PARTITION oo_ml.{partition_name(month_of(NOW, 1))}")
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
        run(db, f"DROP TABLE oo_ml.{partition_name(month_of(NOW, 3))}")
        until(lambda: partition_name(month_of(NOW, 3)) in list_partitions(db))
        assert came_and_went == ["came"]
    assert came_and_went == ["came", "went"]


def test_service_without_rights(db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A service without rights to make months logs the problem once and still gives default rewards."""
    run(db, f"DROP TABLE oo_ml.{partition_name(month_of(NOW, 3))}")
    with limited_service(db) as url, serving(make_settings(**QUICK), url) as service:
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
            # So that no default reward is given before the user's state is locked.
            with writing(db) as other:
                other.execute(text("SELECT FROM oo_ml.upkeep WHERE task = 'default-rewards' FOR UPDATE"))
                service.client.post("/score", json=calls.score())
                until_stopped.enter_context(holding_state(db, "ada", LINUCB))
            wait_until_blocked(db, 1)
            began = time.monotonic()
        assert time.monotonic() - began < 10
    assert reward_of(db) == ""


def test_upkeep_after_an_outage(database_url: str, db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """If the database is away at the start, each task logs one warning and runs once the database is back."""

    def said() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == "oo_ml.services.upkeep.scheduler"]

    with not_yet(database_url) as (url, appear), serving(make_settings(**QUICK), url) as service:
        until(lambda: len(said()) >= len(TASKS))
        seen = len(refused(caplog))
        # Each task tries again, and says no more.
        until(lambda: len(refused(caplog)) > seen + len(TASKS))
        appear()
        until(lambda: service.client.post("/score", json=calls.score()).status_code == 200)
        until(lambda: reward_of(db) == "-0.5 default")
    assert {record.levelno for record in said()} == {logging.WARNING}
    assert sorted(record.message.partition(": Connection")[0] for record in said()) == [
        f"upkeep ({task}) will be retried: The database can't be reached" for task in TASKS
    ]


def refused(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what was logged of connections that were refused."""
    return [record for record in caplog.records if "connection refused" in record.message.lower()]


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
    until(lambda: reward_of(db) == "-0.5 default")


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
def not_yet(database_url: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield an address without a listener, and a function that lets the database appear there."""
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
