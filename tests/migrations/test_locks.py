"""Concurrent migrations, and migrations while a service is running."""

import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from oo_ml.storage.schema import migrate, migration_session, revisions
from oo_ml.storage.schema.partitions import MONTHS_AHEAD
from tests.commands import Done, environment, oo_ml, start
from tests.conftest import make_settings
from tests.migrations.conftest import CHECKOUT
from tests.migrations.rows import INSERT_DECISION, insert_decision, uuid7
from tests.waiting import PATIENCE, until

HEAD = revisions.head()
AT_HEAD = f"{HEAD} (this release: {HEAD})\n"


def test_concurrent_upgrades(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> None:
    """Four processes that migrate the same empty database all succeed, one after another."""
    with migrating(empty_postgresql):
        replicas = [start_upgrade(empty_database_url) for _ in range(4)]
        until(lambda: len(waiting(empty_postgresql)) == 4)
        assert count_tables(empty_postgresql) == 0
    assert [finish(replica) for replica in replicas] == [Done(0, AT_HEAD, "")] * 4
    assert empty_postgresql.execute("SELECT version_num FROM oo_ml.alembic_version").fetchall() == [(HEAD,)]


def test_lock_timeout_and_migration_wait(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> None:
    """Neither lock_timeout nor statement_timeout limits the wait for another migration."""
    name = Identifier(empty_postgresql.info.dbname)
    empty_postgresql.execute(SQL("ALTER DATABASE {} SET lock_timeout = '1ms'").format(name))
    empty_postgresql.execute(SQL("ALTER DATABASE {} SET statement_timeout = '10s'").format(name))
    empty_postgresql.commit()
    with migrating(empty_postgresql):
        replica = start_upgrade(empty_database_url, OO_ML_MIGRATION_LOCK_TIMEOUT=0.001)
        until(lambda: any(seconds > 0.1 for seconds in waiting(empty_postgresql)))
    assert finish(replica) == Done(0, AT_HEAD, "")


def test_migration_wait(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> None:
    """After OO_ML_MIGRATION_WAIT the command says that another process migrates, and has changed nothing."""
    with migrating(empty_postgresql):
        assert oo_ml("db", "upgrade", OO_ML_DATABASE_URL=empty_database_url, OO_ML_MIGRATION_WAIT=0.1) == Done(
            1,
            "",
            "error: Another process is migrating this database and did not finish within OO_ML_MIGRATION_WAIT\n",
        )
        assert count_tables(empty_postgresql) == 0


def test_concurrent_index_during_a_wait(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> None:
    """A process that waits to migrate keeps no snapshot, so CREATE INDEX CONCURRENTLY does not wait for it."""
    empty_postgresql.autocommit = True
    empty_postgresql.execute("CREATE TABLE indexed (number integer)")
    with migrating(empty_postgresql):
        replica = start_upgrade(empty_database_url)
        until(lambda: any(seconds > 0.1 for seconds in waiting(empty_postgresql)))
        empty_postgresql.execute("SET statement_timeout = '10s'")
        empty_postgresql.execute("CREATE INDEX CONCURRENTLY ON indexed (number)")
    assert finish(replica) == Done(0, AT_HEAD, "")


def test_current_during_a_migration(postgresql: psycopg.Connection[Any], database_url: str) -> None:
    """`oo-ml db current` answers while another process migrates."""
    with migrating(postgresql):
        assert migration_session.current(database_url, make_settings(migration_wait=0.1)) == HEAD


def test_table_in_use(postgresql: psycopg.Connection[Any], database_url: str) -> None:
    """If a table is in use for too long, the migration fails with one line and changes nothing."""
    with reading(database_url, "reward_ledger"):
        done = oo_ml(
            "db", "downgrade", "base", "--yes", OO_ML_DATABASE_URL=database_url, OO_ML_MIGRATION_LOCK_TIMEOUT=0.05
        )
    assert done == Done(
        1,
        "",
        "error: A table was in use for longer than OO_ML_MIGRATION_LOCK_TIMEOUT; rolled back: try again\n",
    )
    assert postgresql.execute("SELECT version_num FROM oo_ml.alembic_version").fetchall() == [(HEAD,)]
    postgresql.rollback()
    migrate.check(database_url, make_settings())
    migrate.downgrade(database_url, make_settings(), "base")
    assert count_tables(postgresql) == 1


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """Make a checkout with one more migration, which indexes tables that are in use."""
    scripts = shutil.copytree(CHECKOUT / "alembic", tmp_path / "alembic")
    shutil.copy(CHECKOUT / "alembic.ini", tmp_path)
    (scripts / "versions" / "2099_01_01_0002_pre_indexes.py").write_text(NEXT, "utf-8")
    return tmp_path


NEXT = """
from alembic import op
from migration_helpers import HistoryIndex, drop_invalid_index, index_history, run

revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None

def upgrade():
    with op.get_context().autocommit_block():
        index_history(HistoryIndex("ix_feature_history_score", "_score_idx", "(score)"))
        drop_invalid_index("oo_ml.ix_reward_ledger_tip_id")
        run("CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_reward_ledger_tip_id ON oo_ml.reward_ledger (tip_id)")
"""
INDEXED = """
    SELECT count(*) FILTER (WHERE indexrelid::regclass::text ~ '_score_idx$'), count(*) FILTER (WHERE NOT indisvalid)
    FROM pg_index
"""


@pytest.mark.parametrize(
    ("begin", "at_work"),
    [
        ("READ COMMITTED", INSERT_DECISION),
        ("REPEATABLE READ", "SELECT count(*) FROM oo_ml.feature_history WHERE user_id = 'ada' AND decision_id <> %s"),
    ],
)
def test_index_history_under_load(
    postgresql: psycopg.Connection[Any], database_url: str, next_release: Path, begin: str, at_work: str
) -> None:
    """index_history waits for transactions on feature_history, and no writer waits for it."""
    made = datetime(2031, 10, 15, tzinfo=UTC)
    postgresql.execute("SELECT oo_ml.create_feature_history_months('2031-10-01Z', 2)")
    postgresql.commit()
    with psycopg.connect(database_url) as holder:
        holder.execute(f"SET TRANSACTION ISOLATION LEVEL {begin}".encode())
        holder.execute(at_work, [uuid7(made)])
        replica = start_alembic_upgrade(next_release, database_url, OO_ML_MIGRATION_LOCK_TIMEOUT=PATIENCE)
        until(lambda: is_waiting(postgresql))
        for number in range(1, 4):
            with psycopg.connect(database_url, options="-c lock_timeout=10s") as writer:
                insert_decision(writer, uuid7(made, number))
            until(lambda: is_waiting(postgresql))
        assert replica.poll() is None
        assert postgresql.execute("SELECT version_num FROM oo_ml.alembic_version").fetchall() == [(HEAD,)]
        postgresql.rollback()
    assert finish(replica) == Done(0, "", "")
    assert postgresql.execute(INDEXED).fetchone() == (MONTHS_AHEAD + 3, 0)


def test_interrupted_index_history(postgresql: psycopg.Connection[Any], database_url: str, next_release: Path) -> None:
    """A run that fails says why; the next run builds invalid indexes again."""
    made = datetime(2031, 10, 15, tzinfo=UTC)
    postgresql.execute("SELECT oo_ml.create_feature_history_months('2031-10-01Z', 1)")
    postgresql.commit()
    with psycopg.connect(database_url) as holder:
        holder.execute(INSERT_DECISION, [uuid7(made)])
        done = finish(start_alembic_upgrade(next_release, database_url, OO_ML_MIGRATION_LOCK_TIMEOUT=0.5))
    assert done.code != 0
    assert "A table was in use for longer than " in done.out + done.err
    # As an interrupted run leaves them: two invalid indexes, and one that is not attached yet.
    statements = """
        CREATE INDEX IF NOT EXISTS ix_feature_history_score ON ONLY oo_ml.feature_history (score);
        CREATE INDEX IF NOT EXISTS feature_history_default_score_idx ON oo_ml.feature_history_default (score);
        CREATE INDEX IF NOT EXISTS feature_history_2031_10_score_idx ON oo_ml.feature_history_2031_10 (score);
        CREATE INDEX IF NOT EXISTS ix_reward_ledger_tip_id ON oo_ml.reward_ledger (user_id);
        UPDATE pg_index SET indisvalid = false WHERE indexrelid IN (
            'oo_ml.feature_history_2031_10_score_idx'::regclass,
            'oo_ml.ix_reward_ledger_tip_id'::regclass
        );
    """
    postgresql.execute(statements)
    postgresql.commit()
    assert finish(start_alembic_upgrade(next_release, database_url)) == Done(0, "", "")
    assert postgresql.execute(INDEXED).fetchone() == (MONTHS_AHEAD + 2, 0)
    [ledger] = postgresql.execute("SELECT pg_get_indexdef('oo_ml.ix_reward_ledger_tip_id'::regclass)")
    assert ledger[0].endswith("(tip_id)")


def start_alembic_upgrade(checkout: Path, url: str, **variables: object) -> subprocess.Popen[str]:
    """Start `alembic upgrade head` in a checkout."""
    return subprocess.Popen(  # noqa: S603 - our own tool
        [f"{sysconfig.get_path('scripts')}/alembic", "upgrade", "head"],
        cwd=checkout,
        env=environment(OO_ML_DATABASE_URL=url, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_waiting(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether the migrating process waits for another session."""
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'oo-ml migration' AND cardinality(pg_blocking_pids(pid)) > 0"
    ).fetchone()
    connection.commit()
    return row == (1,)


@contextmanager
def migrating(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Hold the advisory lock of migrations."""
    lock = {"key": migration_session.ADVISORY_LOCK}
    connection.execute("SELECT pg_advisory_lock(%(key)s)", lock)
    connection.commit()
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%(key)s)", lock)
        connection.commit()


@contextmanager
def reading(url: str, table: str) -> Iterator[None]:
    """Keep a table in use, as a transaction that has read it does."""
    with psycopg.connect(url) as connection:
        connection.execute(SQL("SELECT FROM oo_ml.{}").format(Identifier(table)))
        yield


def waiting(connection: psycopg.Connection[Any]) -> list[float]:
    """Return how many seconds each waiting migration has been connected."""
    rows = connection.execute(
        "SELECT extract(epoch FROM clock_timestamp() - backend_start)::float FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'oo-ml migration'"
    ).fetchall()
    connection.commit()
    return [seconds for (seconds,) in rows]


def count_tables(connection: psycopg.Connection[Any]) -> int:
    """Return the number of tables in schema oo_ml."""
    row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'oo_ml'").fetchone()
    connection.commit()
    assert row is not None
    return int(row[0])


def start_upgrade(url: str, **variables: object) -> subprocess.Popen[str]:
    """Start `oo-ml db upgrade`."""
    return start("db", "upgrade", OO_ML_DATABASE_URL=url, **variables)


def finish(process: subprocess.Popen[str]) -> Done:
    """Wait for the end of a process; return its output."""
    out, err = process.communicate(timeout=PATIENCE)
    return Done(process.returncode, out, err)
