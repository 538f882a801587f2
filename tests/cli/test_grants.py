"""`oo-ml db grant-service` and `grant-analyst`: the rights that they grant, and no others."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from psycopg.sql import SQL, Identifier
from sqlalchemy import Engine

from oo_ml.storage.schema import revisions
from tests.analytics.test_contract import VIEWS
from tests.commands import Done, oo_ml
from tests.conftest import MIGRATOR, SERVICE, as_role, make_settings, url_of
from tests.services.upkeep.daily_sums.counting import NOW
from tests.simulated_users import SimulatedUsers

# Statements that an analyst may not run.
FORBIDDEN = (
    "SELECT FROM oo_ml.policy_state",
    "SELECT FROM rollup.reactions",
    "SELECT rollup.weight(1, 1)",
    "SELECT oo_ml.create_feature_history_months(now(), 1)",
    "SELECT oo_ml.summarize_positions()",
    "SELECT nextval('oo_ml.feature_history_order')",
    "UPDATE analytics.tip_scores SET reward = 1",
    "CREATE TABLE analytics.own (n integer)",
    "CREATE VIEW oo_ml.own AS SELECT 1",
)
# Statements that the service may not run.
NOT_THE_SERVICES = (
    "UPDATE oo_ml.alembic_version SET version_num = '9999'",
    "TRUNCATE oo_ml.tips",
    "ALTER TABLE oo_ml.tips ADD COLUMN own integer",
    "DROP TABLE oo_ml.feature_history_default",
    "CREATE TABLE oo_ml.own (n integer)",
    "CREATE SCHEMA own",
)


@pytest.fixture
def newcomer(postgresql: psycopg.Connection[Any]) -> Iterator[str]:
    """The name of a role that does not exist, and will not exist afterwards."""
    role = f"ana {postgresql.info.dbname}"
    yield role
    with psycopg.connect(url_of(postgresql), autocommit=True) as superuser:
        if superuser.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None:
            superuser.execute(SQL("DROP OWNED BY {}").format(Identifier(role)))
            superuser.execute(SQL("DROP ROLE {}").format(Identifier(role)))


def grant(kind: str, url: str, role: str) -> Done:
    """Run the command."""
    return oo_ml("db", f"grant-{kind}", role, OO_ML_DATABASE_URL=url)


def test_rights_of_an_analyst(db: Engine, analyst_url: str) -> None:
    """An analyst reads every view of the reports, with the rows the service sees there, and nothing else."""
    SimulatedUsers(db, 3, now=NOW).act(40)
    with psycopg.connect(analyst_url, autocommit=True) as analyst:
        for view in VIEWS:
            name = SQL("SELECT count(*) FROM analytics.{}").format(Identifier(view))
            count = analyst.execute(name).fetchone()
            with db.connect() as service:
                assert count == tuple(service.exec_driver_sql(name.as_string()).one())
        assert analyst.execute("SELECT (analytics.ips(1, 0.5, 0.5, 'ada')).estimate").fetchone() == (1,)
        for statement in FORBIDDEN:
            with pytest.raises(InsufficientPrivilege):
                analyst.execute(statement.encode())


def test_rights_of_the_service(service_url: str) -> None:
    """The service makes months through a function of the owner, and may not change tables or the revision."""
    with psycopg.connect(service_url, autocommit=True) as service:
        assert service.execute("SELECT version_num FROM oo_ml.alembic_version").fetchone() == (revisions.head(),)
        made = service.execute("SELECT oo_ml.create_feature_history_months('2031-05-01Z', 1)").fetchall()
        assert made == [("feature_history_2031_05",)]
        for statement in NOT_THE_SERVICES:
            with pytest.raises(InsufficientPrivilege):
                service.execute(statement.encode())


@pytest.mark.parametrize(
    ("kind", "works", "sentence"),
    [
        ("service", "DELETE FROM oo_ml.tips", "The role may run the service\n"),
        ("analyst", "SELECT FROM analytics.tip_scores", "The role may read schema analytics\n"),
    ],
)
def test_new_role(database_url: str, newcomer: str, kind: str, works: str, sentence: str) -> None:
    """A role that does not exist is created without a password, and the command says so."""
    made = f'Created "{newcomer}". It has no password yet: \\password "{newcomer}" in psql sets one\n'
    assert grant(kind, database_url, newcomer) == Done(0, made + sentence, "")
    assert grant(kind, database_url, newcomer) == Done(0, sentence, "")
    with psycopg.connect(database_url, user=newcomer, autocommit=True) as role:
        role.execute(works.encode())


def test_objects_of_later_migrations(
    postgresql: psycopg.Connection[Any], database_url: str, service_url: str, analyst_url: str
) -> None:
    """Objects that the owner creates later are granted without running the command again."""
    with psycopg.connect(as_role(database_url, MIGRATOR), autocommit=True) as owner:
        owner.execute("CREATE TABLE oo_ml.later (n serial)")
        owner.execute("CREATE VIEW analytics.later AS SELECT n FROM oo_ml.later")
        owner.execute("CREATE VIEW rollup.later AS SELECT n FROM oo_ml.later")
        owner.execute("CREATE FUNCTION oo_ml.later() RETURNS integer RETURN 1")
    with psycopg.connect(service_url, autocommit=True) as service:
        service.execute("INSERT INTO oo_ml.later DEFAULT VALUES")
        service.execute("SELECT FROM analytics.later AS a, rollup.later AS r, oo_ml.later()")
    with psycopg.connect(analyst_url, autocommit=True) as analyst:
        assert analyst.execute("SELECT n FROM analytics.later").fetchall() == [(1,)]
    assert postgresql.execute("SELECT count(*) FROM oo_ml.later").fetchone() == (1,)


def test_grant_by_another_role(service_url: str, newcomer: str) -> None:
    """A role that does not own the tables is refused; PostgreSQL would only warn and grant nothing."""
    assert grant("analyst", service_url, newcomer) == Done(
        1, "", 'error: "service" does not own the tables: run this as "migrator"\n'
    )


def test_new_role_by_an_owner_without_createrole(database_url: str, newcomer: str) -> None:
    """If the owner may not create roles, the error has the statement for an administrator."""
    assert grant("analyst", as_role(database_url, MIGRATOR), newcomer) == Done(
        1,
        "",
        f'error: There is no role "{newcomer}", and "migrator" may not create it; run CREATE ROLE "{newcomer}" LOGIN\n',
    )


@pytest.mark.parametrize("kind", ["service", "analyst"])
def test_database_without_migrations(empty_database_url: str, kind: str) -> None:
    """The error says what to do."""
    done = grant(kind, empty_database_url, SERVICE)
    assert done == Done(1, "", "error: The database has not been migrated to this release: run `oo-ml db upgrade`\n")


@pytest.mark.parametrize("name", ["", "a\x1bb", "x" * 64])
def test_invalid_role_names(database_url: str, name: str) -> None:
    """A name that no role can have is refused; PostgreSQL would truncate a long one to another role's name."""
    done = grant("analyst", database_url, name)
    assert done.code != 0
    assert "role" in done.err


def test_public(database_url: str) -> None:
    """PUBLIC, which means every role of the server, is refused."""
    done = grant("analyst", database_url, "public")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: PostgreSQL refused: 42939 ")


def test_other_databases(database_url: str, empty_database_url: str) -> None:
    """Rights are granted in the named database only."""
    assert make_settings()
    assert grant("analyst", database_url, "analyst").code == 0
    with psycopg.connect(as_role(empty_database_url, "analyst")) as analyst:
        assert analyst.execute("SELECT to_regnamespace('analytics')").fetchone() == (None,)
