"""Every revision goes up and down, with data in the tables, and there is one head."""

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

from oo_ml.storage.schema import migrate
from tests.conftest import make_settings
from tests.migrations.conftest import CHECKOUT
from tests.migrations.programs import dump
from tests.migrations.rows import fill, insert_decision, uuid7

__all__ = [
    "test_model_definitions_match_ddl",
    "test_single_head_revision",
    "test_up_down_consistency",
    "test_upgrade",
]


def test_up_down_up_with_data_in_the_tables(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> None:
    """Neither data nor a month without a partition stands in the way; nothing is left at the bottom."""
    settings = make_settings()
    migrate.upgrade(empty_database_url, settings)
    migrated = dump(empty_database_url)
    fill(empty_postgresql, uuid7(datetime.now(UTC)))
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
    fill(empty_postgresql, uuid7(datetime.now(UTC)))


def test_files_are_named_by_day_revision_and_phase(alembic_config: Config) -> None:
    """YYYY_MM_DD_NNNN_{pre,post}_what.py, in the order in which they run, and each says what it locks."""
    scripts = list(ScriptDirectory.from_config(alembic_config).walk_revisions())[::-1]
    assert [script.revision for script in scripts] == [f"{number + 1:04}" for number in range(len(scripts))]
    names = [Path(script.path).name for script in scripts]
    assert names == sorted(names)
    for script, name in zip(scripts, names, strict=True):
        assert re.fullmatch(rf"\d{{4}}_\d\d_\d\d_{script.revision}_(pre|post)_\w+\.py", name)
        assert "\nLocks: " in script.longdoc


def test_a_migration_imports_nothing_that_may_change() -> None:
    """A migration does the same in every later release, since it has helpers of its own."""
    for script in [*(CHECKOUT / "alembic" / "versions").glob("*.py"), CHECKOUT / "alembic" / "migration_helpers.py"]:
        assert not re.search(r"^\s*(import|from) oo_ml\b", script.read_text("utf-8"), re.MULTILINE), script.name


def test_detached_months_outlive_a_downgrade(
    empty_postgresql: psycopg.Connection[Any], empty_database_url: str
) -> None:
    """They are the operator's to keep: with their rows, and no obstacle to the next upgrade."""
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


def test_alembic_ini_names_no_database(alembic_config: Config) -> None:
    """Its address, with a password in it, comes from the environment alone."""
    assert set(alembic_config.file_config["alembic"]) - {"here"} == {
        "script_location",
        "prepend_sys_path",
        "path_separator",
        "file_template",
        "timezone",
    }
    assert "://" not in (CHECKOUT / "alembic.ini").read_text("utf-8")
