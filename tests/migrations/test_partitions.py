"""Monthly partitions of feature_history, and the functions that create them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from tests.conftest import url_of
from tests.gates import scalar, wait_until_blocked
from tests.migrations.rows import INSERT_DECISION, LAST, insert_decision, partition_of, uuid7

MILLISECOND = timedelta(milliseconds=1)


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Pacific/Auckland"])
@pytest.mark.parametrize(
    ("first_of_month", "before", "after"),
    [
        (datetime(2031, 11, 1, tzinfo=UTC), "feature_history_2031_10", "feature_history_2031_11"),
        (datetime(2032, 1, 1, tzinfo=UTC), "feature_history_2031_12", "feature_history_2032_01"),
        (datetime(2032, 3, 1, tzinfo=UTC), "feature_history_2032_02", "feature_history_2032_03"),
    ],
)
def test_partition_bounds(
    postgresql: psycopg.Connection[Any], first_of_month: datetime, before: str, after: str, zone: str
) -> None:
    """The last id of a month, in UTC, is in its partition, and the next id is in the following one."""
    postgresql.execute("SELECT set_config('timezone', %s, false)", [zone])
    postgresql.execute("SELECT oo_ml.create_feature_history_months('2031-10-31 12:00Z', 6)")
    last = uuid7(first_of_month - MILLISECOND, LAST)
    first = uuid7(first_of_month)
    for decision_id in (last, first):
        insert_decision(postgresql, decision_id)
    assert (partition_of(postgresql, last), partition_of(postgresql, first)) == (before, after)


def test_default_partition(postgresql: psycopg.Connection[Any]) -> None:
    """Decisions of a missing month go to the default partition, and move unchanged when the month is created."""
    early, late = (uuid7(datetime(2031, month, 15, tzinfo=UTC)) for month in (10, 11))
    for decision_id in (early, late):
        insert_decision(postgresql, decision_id)
    assert {partition_of(postgresql, decision_id) for decision_id in (early, late)} == {"feature_history_default"}
    whole_row = "SELECT feature_history::text FROM oo_ml.feature_history WHERE decision_id = %s"
    before = postgresql.execute(whole_row, [early]).fetchall()
    made = postgresql.execute("SELECT oo_ml.create_feature_history_months('2031-10-01Z', 1)").fetchall()
    assert made == [("feature_history_2031_10",)]
    assert partition_of(postgresql, early) == "feature_history_2031_10"
    assert partition_of(postgresql, late) == "feature_history_default"
    assert postgresql.execute(whole_row, [early]).fetchall() == before


def test_new_month_with_a_concurrent_insert(postgresql: psycopg.Connection[Any], db: Engine) -> None:
    """Creating a month waits for a transaction that inserts into it, and moves the new decision."""
    decision_id = uuid7(datetime(2031, 10, 15, tzinfo=UTC))
    with ThreadPoolExecutor(1) as other:
        with psycopg.connect(url_of(postgresql)) as writer:
            writer.execute(INSERT_DECISION, [decision_id])
            made = other.submit(scalar, db, "SELECT oo_ml.create_feature_history_months('2031-10-01Z', 1)")
            wait_until_blocked(db, 1)
            writer.commit()
        assert made.result() == "feature_history_2031_10"
    assert partition_of(postgresql, decision_id) == "feature_history_2031_10"


def test_existing_months(postgresql: psycopg.Connection[Any]) -> None:
    """Only missing months are created."""
    make = "SELECT oo_ml.create_feature_history_months('2031-11-30 23:59:59Z', %s)"
    assert postgresql.execute(make, [2]).fetchall() == [("feature_history_2031_11",), ("feature_history_2031_12",)]
    assert postgresql.execute(make, [2]).fetchall() == []
    assert postgresql.execute(make, [3]).fetchall() == [("feature_history_2032_01",)]


def test_definition_of_a_month(postgresql: psycopg.Connection[Any]) -> None:
    """A partition has the CHECKs, primary key, indexes and fillfactor of feature_history."""
    postgresql.execute("SELECT oo_ml.create_feature_history_months('2031-10-01Z', 1)")
    postgresql.commit()
    decision_id = uuid7(datetime(2031, 10, 15, tzinfo=UTC))
    insert_decision(postgresql, decision_id)
    with pytest.raises(psycopg.errors.UniqueViolation):
        insert_decision(postgresql, decision_id)
    postgresql.rollback()
    with pytest.raises(psycopg.errors.CheckViolation):
        postgresql.execute("UPDATE oo_ml.feature_history SET reward = 2, rewarded_at = now()")
    postgresql.rollback()
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = %s"
    [options] = postgresql.execute("SELECT reloptions FROM pg_class WHERE relname = 'feature_history_2031_10'")
    assert options == (["fillfactor=90"],)
    assert postgresql.execute(indexes, ["feature_history_2031_10"]).fetchone() == (4,)
