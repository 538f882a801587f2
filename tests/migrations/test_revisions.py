"""Every revision goes up and down, with data in the tables, and there is one head."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from pytest_alembic.tests import (
    test_model_definitions_match_ddl,
    test_single_head_revision,
    test_up_down_consistency,
    test_upgrade,
)

from oo_ml.storage import migrations
from tests.commands import Done, oo_ml
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
    empty = dump(empty_database_url)
    migrations.upgrade(empty_database_url, settings)
    migrated = dump(empty_database_url)
    fill(empty_postgresql, uuid7(datetime.now(UTC)))
    insert_decision(empty_postgresql, uuid7(datetime(2001, 1, 1, tzinfo=UTC)))
    migrations.downgrade(empty_database_url, settings, "base")
    assert dump(empty_database_url) == empty
    migrations.upgrade(empty_database_url, settings)
    assert dump(empty_database_url) == migrated
    fill(empty_postgresql, uuid7(datetime.now(UTC)))


NO_PLACE = {
    "default": """
        INSERT INTO reward_ledger (user_id, policy, epoch, version, recorded_at, kind, reward, x, tip_id, decision_id)
        VALUES ('ada', 'linucb-v1', 0, 2, now(), 'default', 0, '{1}', 't1', gen_random_uuid())
    """,
    "amend": """
        INSERT INTO reward_ledger (
            user_id, policy, epoch, version, recorded_at, kind, reward, previous_reward, x, tip_id, decision_id,
            corrects
        ) VALUES ('ada', 'linucb-v1', 0, 2, now(), 'amend', 1, 0.5, '{1}', 't1', gen_random_uuid(), 1)
    """,
    "retract": """
        INSERT INTO reward_ledger (
            user_id, policy, epoch, version, recorded_at, kind, previous_reward, x, tip_id, decision_id, corrects
        ) VALUES ('ada', 'linucb-v1', 0, 2, now(), 'retract', 0.5, '{1}', 't1', gen_random_uuid(), 1)
    """,
    "retention": "UPDATE upkeep SET done_until = now() WHERE task = 'retention'",
}
_CORRECTED = "rewards have been assumed, amended or retracted, which revision 0001 can't tell of"
_DETACHED = "months of feature_history have been detached, which revision 0001 would take for lost"


@pytest.mark.parametrize("what", NO_PLACE)
def test_what_the_older_schema_has_no_place_for_stays(
    postgresql: psycopg.Connection[Any], database_url: str, what: str
) -> None:
    """A downgrade past it is refused in one line; not a row is lost, and it can be upgraded again."""
    migrations.downgrade(database_url, make_settings(), "0002")
    fill(postgresql, uuid7(datetime.now(UTC)))
    postgresql.execute(NO_PLACE[what].encode())
    postgresql.commit()
    before = dump(database_url)
    done = oo_ml("db", "downgrade", "0001", "--yes", OO_ML_DATABASE_URL=database_url)
    reason = _DETACHED if what == "retention" else _CORRECTED
    assert done == Done(1, "", f"error: PostgreSQL refused: 55000 {reason}\n")
    assert dump(database_url) == before
    assert migrations.current(database_url, make_settings()) == "0002"
    migrations.upgrade(database_url, make_settings())
    migrations.check(database_url, make_settings())


def test_files_are_named_by_day_revision_and_phase(alembic_config: Config) -> None:
    """YYYY_MM_DD_NNNN_{pre,post}_what.py, in the order in which they run, and each says what it locks."""
    scripts = list(ScriptDirectory.from_config(alembic_config).walk_revisions())[::-1]
    assert [script.revision for script in scripts] == [f"{number + 1:04}" for number in range(len(scripts))]
    names = [Path(script.path).name for script in scripts]
    assert names == sorted(names)
    for script, name in zip(scripts, names, strict=True):
        assert re.fullmatch(rf"\d{{4}}_\d\d_\d\d_{script.revision}_(pre|post)_\w+\.py", name)
        assert "\nLocks: " in script.longdoc


def test_alembic_ini_names_no_database(alembic_config: Config) -> None:
    """Its address, with a password in it, comes from the environment alone."""
    assert set(alembic_config.file_config["alembic"]) - {"here"} == {
        "script_location",
        "path_separator",
        "file_template",
        "timezone",
    }
    assert "://" not in (CHECKOUT / "alembic.ini").read_text("utf-8")
