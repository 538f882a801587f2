"""What the migrations make is what the code declares, to the last comment, however they are run."""

import pytest
from sqlalchemy import create_engine, text

from oo_ml.storage import engine, migrations
from oo_ml.storage.partitions import MONTHS_AHEAD
from oo_ml.storage.tables import metadata
from tests.conftest import make_settings
from tests.migrations.programs import dump, psql, squawk


def test_the_migrated_schema_is_the_declared_one(empty_database_url: str, second_database_url: str) -> None:
    """A dump of `upgrade head` equals one of `create_all`."""
    migrations.upgrade(empty_database_url, make_settings())
    declared = create_engine(engine.parse_url(second_database_url))
    with declared.begin() as connection:
        metadata.create_all(connection)
        connection.execute(text("SELECT create_feature_history_months(now(), :months)"), {"months": MONTHS_AHEAD})
    declared.dispose()
    # What is made of views and functions alone is written down in the migrations alone.
    psql(empty_database_url, "SET client_min_messages = warning; DROP SCHEMA analytics, rollup CASCADE")
    assert dump(empty_database_url, "--schema-only") == dump(second_database_url, "--schema-only")


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE policy_state SET (fillfactor = 80)",
        "ALTER TABLE feature_history_default RESET (fillfactor)",
        "ALTER TABLE policy_state DROP CONSTRAINT ck_policy_state_pulls_range",
        "COMMENT ON COLUMN tips.content IS 'The text'",
        "ALTER TABLE tips ALTER user_id TYPE text COLLATE pg_catalog.default",
        "ALTER SEQUENCE feature_history_order CACHE 10",
        "DROP TRIGGER prompt_versions_immutable ON prompt_versions",
        "ALTER TABLE feature_history DETACH PARTITION feature_history_default",
    ],
)
def test_the_comparison_sees_it(database_url: str, change: str) -> None:
    """Any of them makes another dump; of all of them `check` would find the comment alone."""
    before = dump(database_url, "--schema-only")
    psql(database_url, change)
    assert dump(database_url, "--schema-only") != before


def test_the_script_does_what_the_command_does(empty_database_url: str, second_database_url: str) -> None:
    """`oo-ml db sql`, run by psql, leaves the same tables with the same rows: the prompts, letter by letter."""
    migrations.upgrade(empty_database_url, make_settings())
    psql(second_database_url, migrations.sql())
    migrated = dump(empty_database_url)
    assert "v3-few-shot" in migrated
    assert dump(second_database_url) == migrated
    assert migrations.current(second_database_url, make_settings()) == migrations.head()
    migrations.check(second_database_url, make_settings())


def test_the_linter_of_migrations_has_nothing_to_say() -> None:
    """squawk.toml names what it may not say, and why."""
    assert squawk(migrations.sql()) == []


@pytest.mark.parametrize(
    ("addition", "finding"),
    [
        ("CREATE INDEX ON policy_state (last_updated);", "require-concurrent-index-creation"),
        ("ALTER TABLE policy_state ADD COLUMN added boolean NOT NULL;", "adding-required-field"),
        ("ALTER TABLE policy_state RENAME COLUMN pulls TO decisions;", "renaming-column"),
    ],
)
def test_the_linter_finds_what_would_stop_a_service(addition: str, finding: str) -> None:
    """The next migration will meet tables that are in use."""
    assert finding in " ".join(squawk(addition))
