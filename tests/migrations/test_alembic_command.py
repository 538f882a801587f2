"""The command `alembic` in a checkout, as developers and pipelines use it."""

import shutil
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from alembic.config import CommandLine, Config

from oo_ml.storage.schema import migration_session, revisions
from oo_ml.storage.schema.partitions import MONTHS_AHEAD, month_of
from tests.commands import Done, environment, oo_ml, run
from tests.conftest import make_settings
from tests.migrations.conftest import CHECKOUT
from tests.migrations.programs import dump


def test_alembic_and_oo_ml_db(empty_database_url: str, second_database_url: str) -> None:
    """`alembic` and `oo-ml db` make the same databases and print the same lines."""
    ours: dict[str, Any] = {"OO_ML_DATABASE_URL": empty_database_url}
    its: dict[str, Any] = {"OO_ML_DATABASE_URL": second_database_url}
    assert oo_ml("db", "upgrade", **ours).code == 0
    assert alembic("upgrade", "head", **its) == Done(0, "", "")
    assert dump(second_database_url) == dump(empty_database_url)
    assert alembic("check", **its) == Done(0, "No new upgrade operations detected.\n", "")
    assert alembic("current", **its) == Done(0, f"{revisions.head()} (head)\n", "")
    assert oo_ml("db", "history") == alembic("history", **its)
    for url, done in (
        (empty_database_url, oo_ml("db", "downgrade", "base", "--yes", **ours)),
        (second_database_url, alembic("downgrade", "base", **its)),
    ):
        assert (done.code, migration_session.current(url, make_settings())) == (0, None)
    assert dump(second_database_url) == dump(empty_database_url)


def test_partitions_of_the_coming_months(postgresql: psycopg.Connection[Any], database_url: str) -> None:
    """`alembic upgrade head` creates missing months even if the database is at head, as `oo-ml db upgrade` does."""
    postgresql.execute(f"DROP TABLE oo_ml.feature_history_{month_of(datetime.now(UTC), 2):%Y_%m}".encode())
    postgresql.commit()
    assert alembic("upgrade", "head", OO_ML_DATABASE_URL=database_url).code == 0
    with psycopg.connect(database_url) as connection:
        parts = connection.execute(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'oo_ml.feature_history'::regclass"
        ).fetchone()
    assert parts == (MONTHS_AHEAD + 1,)


def test_check_and_current_change_nothing(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> None:
    """`check` and `current` create neither a schema nor a version table."""
    assert alembic("check", OO_ML_DATABASE_URL=empty_database_url).code != 0
    assert alembic("current", OO_ML_DATABASE_URL=empty_database_url) == Done(0, "", "")
    assert empty_postgresql.execute("SELECT to_regnamespace('oo_ml')").fetchone() == (None,)


def test_template_of_migrations(tmp_path: Path) -> None:
    """`alembic revision` makes a file that compiles and contains the rules for migrations."""
    scripts = shutil.copytree(CHECKOUT / "alembic", tmp_path / "alembic")
    shutil.copy(CHECKOUT / "alembic.ini", tmp_path)
    done = alembic_process("revision", "--message", "a new thing", "--rev-id", "0002", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    [made] = (scripts / "versions").glob("*_0002_a_new_thing.py")
    written = made.read_text("utf-8")
    compile(written, made.name, "exec")
    for rule in ("pre or post", "lock_timeout", "NOT VALID", "VALIDATE", "CONCURRENTLY", "one statement at a time"):
        assert rule in written
    assert "\nLocks:" in written


def test_missing_database_url() -> None:
    """Without an address `alembic` prints one line that names the setting."""
    done = alembic_process("upgrade", "head")
    assert (done.code, done.err) == (255, "")
    assert done.out == "FAILED: Set OO_ML_DATABASE_URL, or use `oo-ml db` for the private PostgreSQL\n"


def alembic(*words: str, **variables: object) -> Done:
    """Run `alembic` in this process, as its own main function does."""

    def program() -> None:
        line = CommandLine("alembic")
        options = line.parser.parse_args(words)
        # The default is the stream that was standard output when alembic was imported.
        line.run_cmd(Config(CHECKOUT / "alembic.ini", cmd_opts=options, stdout=sys.stdout), options)

    return run(program, **variables)


def alembic_process(*words: str, cwd: Path = CHECKOUT, **variables: object) -> Done:
    """Run `alembic` in a checkout, in a process of its own."""
    done = subprocess.run(  # noqa: S603 - our own tool
        [f"{sysconfig.get_path('scripts')}/alembic", *words],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
