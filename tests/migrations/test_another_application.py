"""A database shared with another application: its tables are never read, changed or dropped."""

from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from oo_ml.services import grants
from oo_ml.storage.schema import migrate, revisions
from tests import calls
from tests.commands import Done, oo_ml
from tests.conftest import MIGRATOR, SERVICE, allow_migrations, as_role, make_settings
from tests.migrations.programs import dump
from tests.services.sample_users import parse_export
from tests.serving import serving

THEIRS = """
    CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
    INSERT INTO alembic_version VALUES ('ab12cd34ef56');
    CREATE TABLE users (id integer PRIMARY KEY, name text);
    INSERT INTO users VALUES (1, 'Ada');
    CREATE TABLE tips (user_id text PRIMARY KEY, amount numeric);
    INSERT INTO tips VALUES ('ada', 3.20);
    CREATE TABLE orders (user_id text, amount numeric, ordered_at timestamp);
    INSERT INTO orders VALUES ('ada', 12.50, now());
    CREATE TABLE feature_history_2026_07 (user_id text);
    INSERT INTO feature_history_2026_07 VALUES ('ada');
    CREATE SEQUENCE generations_order;
    CREATE FUNCTION create_feature_history_months(timestamptz, integer) RETURNS text LANGUAGE sql RETURN 'theirs';
    CREATE SCHEMA analytics;
    CREATE TABLE analytics.tip_scores (user_id text);
    INSERT INTO analytics.tip_scores VALUES ('ada');
"""
ELSEWHERE = {"analytics_schema": "oo_ml_analytics", "rollup_schema": "oo_ml_rollup"}
VARIABLES = {f"OO_ML_{name.upper()}": value for name, value in ELSEWHERE.items()}


@pytest.fixture
def other_application(empty_postgresql: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Return a superuser's connection to another application's database, where oO ML may create schemas."""
    empty_postgresql.execute(THEIRS)
    # With these rights, a statement on the wrong schema would succeed and change the data.
    empty_postgresql.execute("GRANT ALL ON ALL TABLES IN SCHEMA public, analytics TO PUBLIC")
    empty_postgresql.execute("GRANT USAGE, CREATE ON SCHEMA public, analytics TO PUBLIC")
    allow_migrations(empty_postgresql)
    empty_postgresql.commit()
    return empty_postgresql


def test_taken_reports_schema(other_application: psycopg.Connection[Any], empty_database_url: str) -> None:
    """If schema analytics is taken, `db upgrade` names the setting and changes nothing; the service is not ready."""
    before = dump(empty_database_url)
    done = oo_ml("db", "upgrade", OO_ML_DATABASE_URL=as_role(empty_database_url, MIGRATOR))
    assert done == Done(
        1,
        "",
        "error: Schema analytics holds objects of another application: set OO_ML_ANALYTICS_SCHEMA to another name\n",
    )
    with serving(make_settings(), empty_database_url) as service:
        answer = service.client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "schema_not_ready")
    assert dump(empty_database_url) == before
    assert other_application.execute("SELECT to_regnamespace('oo_ml')").fetchone() == (None,)


@pytest.mark.parametrize("taken", ["rollup", "oo_ml"])
def test_other_taken_schemas(empty_postgresql: psycopg.Connection[Any], empty_database_url: str, taken: str) -> None:
    """Objects of any kind in schemas rollup and oo_ml make `db upgrade` refuse, even a single function or type."""
    empty_postgresql.execute(f"CREATE SCHEMA {taken}".encode())
    made = "FUNCTION rollup.f() RETURNS integer RETURN 1" if taken == "rollup" else "TYPE oo_ml.mood AS ENUM ('ok')"
    empty_postgresql.execute(f"CREATE {made}".encode())
    empty_postgresql.commit()
    done = oo_ml("db", "upgrade", OO_ML_DATABASE_URL=empty_database_url)
    way_out = "set OO_ML_ROLLUP_SCHEMA to another name" if taken == "rollup" else "use another database"
    assert done == Done(1, "", f"error: Schema {taken} holds objects of another application: {way_out}\n")


def test_life_in_a_shared_database(other_application: psycopg.Connection[Any], empty_database_url: str) -> None:
    """With other names for the reports' schemas everything works, and no row of the other application changes."""
    tables = ("--table=public.*", "--table=analytics.*")
    before = dump(empty_database_url, *tables)
    owner = as_role(empty_database_url, MIGRATOR)
    variables: dict[str, Any] = {"OO_ML_DATABASE_URL": owner, **VARIABLES}
    at_head = f"{revisions.head()} (this release: {revisions.head()})\n"
    assert oo_ml("db", "upgrade", **variables) == Done(0, at_head, "")
    assert oo_ml("db", "check", **variables).code == 0
    settings = make_settings(**ELSEWHERE, upkeep_interval=0.1, reward_wait=0.01)
    grants.grant_service(owner, settings, SERVICE)
    with serving(settings, as_role(empty_database_url, SERVICE)) as service:
        assert service.client.get("/readyz").json() == {"ok": True}
        assert service.client.post("/score", json=calls.score()).status_code == 200
        assert service.client.post("/reward", json=calls.reward()).status_code == 200
        assert service.client.get("/analytics/reaction-rates").json()["items"][0]["shown"] == 1
        assert service.client.get("/analytics/loop-health").status_code == 200
        assert {"orders", "tip_scores", "feature_history_2026_07"}.isdisjoint(
            parse_export(service.client.get("/users/ada/export").content)
        )
        assert service.client.delete("/users/ada").json()["total"] == 3
    verify = oo_ml("verify", "--all", **variables)
    assert (verify.code, verify.err) == (0, "")
    assert dump(empty_database_url, *tables) == before
    assert oo_ml("db", "downgrade", "base", "--yes", **variables).code == 0
    assert dump(empty_database_url, *tables) == before
    schemas = "SELECT array_agg(nspname::text ORDER BY 1) FROM pg_namespace WHERE nspname ~ 'oo_ml|analytics'"
    assert other_application.execute(schemas).fetchone() == (["analytics", "oo_ml"],)


def test_schema_names_of_the_service(other_application: psycopg.Connection[Any], empty_database_url: str) -> None:
    """If the service has other schema names than the migration, /readyz names the settings to change."""
    assert other_application.info.dbname
    migrate.upgrade(as_role(empty_database_url, MIGRATOR), make_settings(**ELSEWHERE))
    with serving(make_settings(), empty_database_url) as service:
        answer = service.client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "unsuitable_database")
    assert "OO_ML_ANALYTICS_SCHEMA and OO_ML_ROLLUP_SCHEMA" in answer.json()["detail"]


def test_downgrade_with_a_dependent_view(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> None:
    """If another application's view depends on a report, a downgrade refuses and drops nothing."""
    migrate.upgrade(empty_database_url, make_settings())
    empty_postgresql.execute("CREATE VIEW public.best AS SELECT policy FROM analytics.learning_curve")
    empty_postgresql.commit()
    before = dump(empty_database_url)
    done = oo_ml("db", "downgrade", "base", "--yes", OO_ML_DATABASE_URL=empty_database_url)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: PostgreSQL refused: 2BP01 cannot drop ")
    assert dump(empty_database_url) == before


def test_other_tables_in_schema_oo_ml(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> None:
    """If schema oo_ml holds another application's tables, migrations and /readyz refuse with the reason."""
    empty_postgresql.execute(
        """
        CREATE SCHEMA oo_ml;
        CREATE TABLE oo_ml.alembic_version (version_num varchar(32) PRIMARY KEY);
        INSERT INTO oo_ml.alembic_version VALUES ('ab12cd34ef56');
        CREATE TABLE oo_ml.tips (id integer)
        """
    )
    empty_postgresql.commit()
    sentence = (
        "oo_ml.alembic_version names a revision that this release does not know, and the tables in schema oo_ml are not"
        " oO ML's: use another database"
    )
    for words in (("upgrade",), ("downgrade", "base", "--yes")):
        assert oo_ml("db", *words, OO_ML_DATABASE_URL=empty_database_url) == Done(1, "", f"error: {sentence}\n")
    with serving(make_settings(), empty_database_url) as service:
        answer = service.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        503,
        {"detail": sentence, "code": "unsuitable_database", "request_id": answer.headers["X-Request-ID"]},
    )


def test_missing_column(postgresql: psycopg.Connection[Any], database_url: str) -> None:
    """If a declared column is missing, /readyz names it."""
    postgresql.execute("ALTER TABLE oo_ml.tips DROP COLUMN rationale")
    postgresql.commit()
    with serving(make_settings(), database_url) as service:
        answer = service.client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "unsuitable_database")
    assert answer.json()["detail"].startswith("tips.rationale is missing from schema oo_ml")


@pytest.mark.parametrize("revision", ["0001", "0009"])
def test_pre_release_tables(empty_postgresql: psycopg.Connection[Any], empty_database_url: str, revision: str) -> None:
    """Tables of a pre-release, in any schema, make migrations and /readyz refuse with what to do."""
    name = Identifier("elsewhere" if revision == "0001" else "public")
    empty_postgresql.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
    for table in ("policy_state", "feature_history", "reward_ledger", "alembic_version"):
        empty_postgresql.execute(
            SQL("CREATE TABLE {} (version_num text)").format(Identifier(name.as_string()[1:-1], table))
        )
    empty_postgresql.execute("CREATE SCHEMA analytics; CREATE VIEW analytics.tip_scores AS SELECT 1 AS one")
    empty_postgresql.commit()
    before = dump(empty_database_url)
    done = oo_ml("db", "upgrade", OO_ML_DATABASE_URL=empty_database_url)
    with serving(make_settings(), empty_database_url) as service:
        answer = service.client.get("/readyz")
    assert (done.code, done.err) == (1, f"error: {answer.json()['detail']}\n")
    assert (answer.status_code, answer.json()["code"]) == (503, "unsuitable_database")
    assert "a pre-release, which can't be upgraded" in done.err
    assert "export them with the pre-release and replay the exports" in done.err
    assert dump(empty_database_url) == before
