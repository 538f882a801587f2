"""Monthly partitions of feature_history: made ahead, detached after retention, or left to an operator."""

import asyncio
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from oo_ml.errors import DatabaseRefusedError, DatabaseTimeoutError
from oo_ml.services.upkeep.partitions import Months
from oo_ml.storage.schema import migrate, partitions
from oo_ml.storage.schema.partitions import month_of
from tests.conftest import make_settings
from tests.gates import scalar, wait_until_blocked
from tests.migrations.rows import insert_decision, partition_of, uuid7
from tests.services.upkeep.months import (
    CROWDED,
    NOW,
    OWNER,
    describe_problems,
    limited_service,
    list_partitions,
    partition_name,
    run,
    run_keep_months,
)
from tests.sessions import writing


def test_months_made_ahead(database_url: str, db: Engine) -> None:
    """Partitions exist for the current month and the next three; existing ones are left alone."""
    assert run_keep_months(database_url) == Months([], [], [], [])
    later = month_of(NOW, 2)
    assert run_keep_months(database_url, now=later) == Months(
        [partition_name(month_of(NOW, 4)), partition_name(month_of(NOW, 5))], [], [], []
    )
    assert list_partitions(db) == [partition_name(month_of(NOW, ahead)) for ahead in range(6)]


def test_decisions_move_out_of_the_default_partition(database_url: str, postgresql: psycopg.Connection[Any]) -> None:
    """A decision in the default partition moves into its month once upkeep makes it, without an alarm."""
    later = month_of(NOW, 7)
    decision_id = uuid7(later)
    insert_decision(postgresql, decision_id)
    assert partition_of(postgresql, decision_id) == "feature_history_default"
    postgresql.rollback()
    assert run_keep_months(database_url, now=later).alarms == []
    assert partition_of(postgresql, decision_id) == partition_name(later)


def test_detached_months(database_url: str, db: Engine, postgresql: psycopg.Connection[Any]) -> None:
    """Months before retention are detached as tables that keep their rows and the rights of their readers."""
    role = f"Reader of {postgresql.info.dbname}"
    run(db, f'CREATE ROLE "{role}"')
    try:
        run(db, f'GRANT SELECT, DELETE ON oo_ml.feature_history TO "{role}"')
        run(db, "GRANT SELECT ON oo_ml.feature_history TO PUBLIC")
        run(db, "SELECT oo_ml.create_feature_history_months('2031-05-01Z', 10)")
        insert_decision(postgresql, uuid7(datetime(2031, 7, 31, 23, 59, 59, tzinfo=UTC)))
        months = run_keep_months(database_url, now=datetime(2031, 11, 23, tzinfo=UTC), retention=3)
        gone = [
            *(partition_name(month_of(NOW, ahead)) for ahead in range(4)),
            *(f"feature_history_2031_0{n}" for n in (5, 6, 7)),
        ]
        assert months == Months([], gone, [], [])
        assert list_partitions(db)[0] == "feature_history_2031_08"
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
    assert run_keep_months(database_url, now=now, retention=retention).detached == [
        partition_name(month_of(NOW, n)) for n in detached
    ]
    assert (scalar(db, "SELECT done_until FROM oo_ml.upkeep WHERE task = 'retention'") is None) == (not detached)


def test_locked_table(database_url: str, db: Engine) -> None:
    """If the table is locked, the service gives up at once, whatever OO_ML_LOCK_TIMEOUT is, and retries later."""
    now = month_of(NOW, 1)
    with db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        months = run_keep_months(database_url, now=now, retention=1)
        assert months.made == []
        [problem] = months.problems
        assert isinstance(problem, DatabaseTimeoutError)
    assert run_keep_months(database_url, now=now, retention=1).made == [partition_name(month_of(NOW, 4))]


def test_command_waits_for_a_locked_table(database_url: str, db: Engine) -> None:
    """The command waits for the lock on the table, up to OO_ML_LOCK_TIMEOUT."""
    run(db, f"DROP TABLE oo_ml.{partition_name(month_of(NOW, 3))}")
    with ThreadPoolExecutor(1) as elsewhere, db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        command = elsewhere.submit(run_keep_months, database_url, is_patient=True)
        # Longer than the service would wait.
        assert wait([command], timeout=0.5).not_done
        reader.rollback()
        assert command.result() == Months([partition_name(month_of(NOW, 3))], [], [], [])


def test_month_with_many_waiting_decisions(database_url: str, db: Engine, postgresql: psycopg.Connection[Any]) -> None:
    """If making a month would move many decisions, upkeep makes the other months and leaves it to the owner."""
    later = month_of(NOW, 4)
    for number in range(4):
        insert_decision(postgresql, uuid7(later, number))
    months = run_keep_months(database_url, now=later, movable=3)
    assert months.made == [partition_name(month_of(later, ahead)) for ahead in (1, 2, 3)]
    assert (months.problems, months.alarms) == ([], [CROWDED.format(later)])
    assert partition_of(postgresql, uuid7(later)) == "feature_history_default"
    postgresql.rollback()
    # It is not even tried, so a locked table is no problem.
    with db.connect() as reader:
        reader.execute(text("SELECT FROM oo_ml.feature_history"))
        assert run_keep_months(database_url, now=later, movable=3).problems == []
    assert run_keep_months(database_url, now=later, movable=4).made == [partition_name(later)]
    assert run_keep_months(database_url, now=later, movable=3) == Months([], [], [], [])


def test_crowded_default_partition(database_url: str, db: Engine, postgresql: psycopg.Connection[Any]) -> None:
    """If the default partition has many rows, which PostgreSQL would scan, making a month is left to the owner."""
    missing = month_of(NOW, 3)
    run(db, f"DROP TABLE oo_ml.{partition_name(missing)}")
    for number in range(11):
        insert_decision(postgresql, uuid7(datetime(2001, 5, 31, tzinfo=UTC), number))
    assert run_keep_months(database_url, movable=1) == Months([], [], [], [CROWDED.format(missing)])
    migrate.upgrade(database_url, make_settings())
    assert run_keep_months(database_url, movable=1) == Months([], [], [], [])


def test_missing_row_of_retention(database_url: str, db: Engine) -> None:
    """A detach inserts the upkeep row of retention if a restored database lacks it."""
    run(db, "DELETE FROM oo_ml.upkeep")
    assert run_keep_months(database_url, now=month_of(NOW, 2), retention=1).detached == [
        partition_name(month_of(NOW, 0))
    ]
    done_until = "SELECT done_until FROM oo_ml.upkeep WHERE task = 'retention'"
    assert scalar(db, done_until) == month_of(NOW, 1)


def test_months_made_concurrently(db: Engine) -> None:
    """The second of two transactions that make a month waits for the first and makes nothing."""
    run(db, f"DROP TABLE oo_ml.{partition_name(month_of(NOW, 3))}")
    make = text("SELECT oo_ml.create_feature_history_months(now(), 4)")
    with db.connect() as first:
        assert first.scalars(make).all() == [partition_name(month_of(NOW, 3))]

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
    with limited_service(db) as url:
        assert run_keep_months(url) == Months([], [], [], [])
        run(db, f"DROP TABLE oo_ml.{partition_name(month_of(NOW, 3))}")
        making = (DatabaseRefusedError, f"making months of feature_history: this role lacks the rights; {OWNER}")
        detaching = (DatabaseRefusedError, f"detaching months of feature_history: this role lacks the rights; {OWNER}")
        months = run_keep_months(url)
        assert (describe_problems(months), months.alarms) == ([making], [])
        run(db, f"DROP TABLE oo_ml.{partition_name(month_of(NOW, 1))}")
        months = run_keep_months(url)
        assert describe_problems(months) == [making]
        assert months.alarms == [f"feature_history has no partition for {month_of(NOW, 1):%Y-%m}: {OWNER}"]
        months = run_keep_months(url, now=month_of(NOW, 2), retention=1)
        assert describe_problems(months) == [making, detaching]


def test_alarm_for_decisions_without_a_month(
    database_url: str, db: Engine, postgresql: psycopg.Connection[Any]
) -> None:
    """Decisions of a forgotten month raise an alarm with the statement that repairs it."""
    forgotten, later = month_of(NOW, 5), month_of(NOW, 6)
    insert_decision(postgresql, uuid7(forgotten))
    assert run_keep_months(database_url, now=NOW).alarms == []
    run_keep_months(database_url, now=later)
    statement = f"SELECT oo_ml.create_feature_history_months('{forgotten:%Y-%m-%d}Z', 1)"
    alarm = (
        f"decisions of {forgotten:%Y-%m} lie in feature_history_default: as the owner of feature_history run"
        f" {statement}"
    )
    assert run_keep_months(database_url, now=later).alarms == [alarm]
    with limited_service(db) as url:
        assert run_keep_months(url, now=later).alarms == [alarm]
    run(db, statement)
    assert run_keep_months(database_url, now=later).alarms == []


def test_no_alarm_for_old_ids(database_url: str, postgresql: psycopg.Connection[Any]) -> None:
    """A decision id from before the first month raises no alarm."""
    insert_decision(postgresql, uuid7(datetime(2001, 5, 31, tzinfo=UTC)))
    assert run_keep_months(database_url).alarms == []
