"""`alembic` itself, in a checkout, as developers and pipelines use it."""

import subprocess
import sysconfig
from typing import Any

import psycopg

from oo_ml.storage import migrations
from tests.commands import Done, environment
from tests.migrations.conftest import CHECKOUT


def test_it_migrates_the_database_of_the_environment(
    empty_postgresql: psycopg.Connection[Any], empty_database_url: str
) -> None:
    """OO_ML_DATABASE_URL is all it needs."""
    assert alembic("upgrade", "head", OO_ML_DATABASE_URL=empty_database_url) == Done(0, "", "")
    assert empty_postgresql.execute("SELECT version_num FROM alembic_version").fetchall() == [(migrations.head(),)]


def test_without_an_address_it_says_what_to_set() -> None:
    """One line, no traceback."""
    done = alembic("upgrade", "head")
    assert (done.code, done.err) == (255, "")
    assert done.out == "FAILED: Set OO_ML_DATABASE_URL, or use `oo-ml db` for the private PostgreSQL\n"


def alembic(*words: str, **variables: object) -> Done:
    """Run `alembic` in the checkout."""
    done = subprocess.run(  # noqa: S603 - our own tool
        [f"{sysconfig.get_path('scripts')}/alembic", *words],
        cwd=CHECKOUT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
