"""Upgrade and downgrade of every revision, and rules for migration files."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from alembic.config import Config
from alembic.script import ScriptDirectory
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)

from oo_ml.storage.schema import migrate, revisions
from tests.conftest import make_settings
from tests.migrations.conftest import CHECKOUT
from tests.migrations.programs import dump
from tests.migrations.rows import fill_tables, insert_decision, uuid7

__all__ = [
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]


def test_round_trip_with_data(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> None:
    """A downgrade with data leaves only the version table, and a second upgrade gives the same schema."""
    settings = make_settings()
    migrate.upgrade(empty_database_url, settings)
    migrated = dump(empty_database_url)
    fill_tables(empty_postgresql, uuid7(datetime.now(UTC)))
    insert_decision(empty_postgresql, uuid7(datetime(2001, 1, 1, tzinfo=UTC)))
    migrate.downgrade(empty_database_url, settings, "base")
    left = "SELECT array_agg(relname::text ORDER BY 1) FROM pg_class WHERE relnamespace = 'oo_ml'::regnamespace"
    assert empty_postgresql.execute(left).fetchone() == (["alembic_version", "alembic_version_pkc"],)
    assert empty_postgresql.execute("SELECT to_regnamespace('analytics'), to_regnamespace('rollup')").fetchone() == (
        None,
        None,
    )
    empty_postgresql.commit()
    migrate.upgrade(empty_database_url, settings)
    assert dump(empty_database_url) == migrated
    fill_tables(empty_postgresql, uuid7(datetime.now(UTC)))


def test_file_names(alembic_config: Config) -> None:
    """Files are named YYYY_MM_DD_NNNN_{pre,post}_subject.py in the order of the revisions, and document their locks."""
    scripts = list(ScriptDirectory.from_config(alembic_config).walk_revisions())[::-1]
    assert [script.revision for script in scripts] == [f"{number + 1:04}" for number in range(len(scripts))]
    names = [Path(script.path).name for script in scripts]
    assert names == sorted(names)
    for script, name in zip(scripts, names, strict=True):
        assert re.fullmatch(rf"\d{{4}}_\d\d_\d\d_{script.revision}_(pre|post)_\w+\.py", name)
        assert "\nLocks: " in script.longdoc


def test_revisions_in_file_names(alembic_config: Config) -> None:
    """The revisions that the service reads from the names of the files are those of alembic."""
    scripts = ScriptDirectory.from_config(alembic_config)
    assert revisions.known() == {script.revision for script in scripts.walk_revisions()}
    assert revisions.head() == scripts.get_current_head()


def test_imports_of_migrations() -> None:
    """Migrations and their helpers import nothing from oo_ml, so they do the same in every later release."""
    for script in [*(CHECKOUT / "alembic" / "versions").glob("*.py"), CHECKOUT / "alembic" / "migration_helpers.py"]:
        assert not re.search(r"^\s*(import|from) oo_ml\b", script.read_text("utf-8"), re.MULTILINE), script.name


def test_detached_months(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> None:
    """Detached months survive a downgrade with their rows, and don't prevent the next upgrade."""
    settings = make_settings()
    migrate.upgrade(empty_database_url, settings)
    insert_decision(empty_postgresql, uuid7(datetime(2001, 5, 5, tzinfo=UTC)))
    empty_postgresql.execute("SELECT oo_ml.create_feature_history_months('2001-05-01Z', 1)")
    empty_postgresql.execute("SELECT oo_ml.detach_feature_history_months('2001-06-01Z', now())")
    empty_postgresql.commit()
    migrate.downgrade(empty_database_url, settings, "base")
    migrate.upgrade(empty_database_url, settings)
    migrate.check(empty_database_url, settings)
    assert empty_postgresql.execute("SELECT user_id FROM oo_ml.feature_history_2001_05").fetchall() == [("ada",)]


def test_alembic_ini(alembic_config: Config) -> None:
    """alembic.ini has no address of a database, because the address may contain a password."""
    assert set(alembic_config.file_config["alembic"]) - {"here"} == {
        "script_location",
        "prepend_sys_path",
        "path_separator",
        "file_template",
        "timezone",
    }
    assert "://" not in (CHECKOUT / "alembic.ini").read_text("utf-8")
