"""The migrated schema, compared with the declarations in the code, and its linter."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, text

from oo_ml.storage.postgres.address import parse_url
from oo_ml.storage.schema import migrate, migration_session, revisions
from oo_ml.storage.schema.all_tables import metadata
from oo_ml.storage.schema.partitions import MONTHS_AHEAD, month_of
from tests.conftest import make_settings
from tests.migrations.programs import dump, psql, squawk
from tests.sessions import writing

# Objects that exist in the migrations only: everything except tables, indexes and sequences.
NOT_DECLARED = """
    DROP SCHEMA analytics, rollup CASCADE;
    DROP TABLE oo_ml.alembic_version, oo_ml.feature_history_default, {months};
    DROP TRIGGER prompt_versions_immutable ON oo_ml.prompt_versions;
    DROP TRIGGER policies_immutable ON oo_ml.policies;
    DROP TRIGGER policy_priors_immutable ON oo_ml.policy_priors;
    DROP FUNCTION
        oo_ml.create_feature_history_months, oo_ml.detach_feature_history_months, oo_ml.refuse_change_of_prompt_version,
        oo_ml.refuse_change_of_policy, oo_ml.refuse_change_of_prior, oo_ml.summarize_positions;
"""


def test_migrated_schema_equals_declared_schema(empty_database_url: str, second_database_url: str) -> None:
    """A dump of `upgrade head` equals a dump of `create_all`: tables, constraints, indexes, sequences, comments."""
    migrate.upgrade(empty_database_url, make_settings())
    declared = create_engine(parse_url(second_database_url))
    with writing(declared) as connection:
        connection.execute(text("CREATE SCHEMA oo_ml"))
        metadata.create_all(connection)
        comment = (
            "COMMENT ON SCHEMA oo_ml IS 'Tables of oO ML: states, decisions, ledger, prompt versions, sums by day'"
        )
        connection.execute(text(comment))
    declared.dispose()
    now = datetime.now(UTC)
    months = ", ".join(f"oo_ml.feature_history_{month_of(now, later):%Y_%m}" for later in range(MONTHS_AHEAD))
    psql(empty_database_url, f"SET client_min_messages = warning; {NOT_DECLARED.format(months=months)}")
    assert dump(empty_database_url, "--schema-only") == dump(second_database_url, "--schema-only")


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE oo_ml.policy_state SET (fillfactor = 80)",
        "ALTER TABLE oo_ml.feature_history_default RESET (fillfactor)",
        "ALTER TABLE oo_ml.policy_state DROP CONSTRAINT ck_policy_state_pulls_range",
        "COMMENT ON COLUMN oo_ml.tips.content IS 'The text'",
        "ALTER TABLE oo_ml.prompt_assignments ALTER user_id TYPE text COLLATE pg_catalog.default",
        "ALTER SEQUENCE oo_ml.feature_history_order CACHE 10",
        "DROP TRIGGER prompt_versions_immutable ON oo_ml.prompt_versions",
        "ALTER TABLE oo_ml.feature_history DETACH PARTITION oo_ml.feature_history_default",
    ],
)
def test_sensitivity_of_the_comparison(database_url: str, change: str) -> None:
    """Each of these changes changes the dump; `check` would find only the comment."""
    before = dump(database_url, "--schema-only")
    psql(database_url, change)
    assert dump(database_url, "--schema-only") != before


def test_printed_script(empty_database_url: str, second_database_url: str) -> None:
    """`oo-ml db sql`, run by psql, gives the same tables and rows as `oo-ml db upgrade`."""
    migrate.upgrade(empty_database_url, make_settings())
    psql(second_database_url, migrate.sql())
    migrated = dump(empty_database_url)
    assert "v3-few-shot" in migrated
    assert dump(second_database_url) == migrated
    assert migration_session.current(second_database_url, make_settings()) == revisions.head()
    migrate.check(second_database_url, make_settings())


def test_squawk() -> None:
    """The linter finds nothing in the migrations; squawk.toml lists the ignored rules with reasons."""
    assert squawk(migrate.sql()) == []


@pytest.mark.parametrize(
    ("addition", "finding"),
    [
        ("CREATE INDEX ON oo_ml.policy_state (last_updated);", "require-concurrent-index-creation"),
        ("ALTER TABLE oo_ml.policy_state ADD COLUMN added boolean NOT NULL;", "adding-required-field"),
        ("ALTER TABLE oo_ml.policy_state RENAME COLUMN pulls TO decisions;", "renaming-column"),
    ],
)
def test_squawk_on_tables_in_use(addition: str, finding: str) -> None:
    """The linter finds statements that would block a running service."""
    assert finding in " ".join(squawk(addition))
