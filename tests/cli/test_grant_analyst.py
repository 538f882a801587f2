"""`oo-ml db grant-analyst`: a role that reads schema analytics, and is refused everywhere else."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Engine, make_url

from oo_ml.errors import OoMlError
from oo_ml.services import analysts
from oo_ml.storage import migrations
from tests.analytics.test_contract import VIEWS
from tests.commands import Done, oo_ml
from tests.conftest import make_settings, url_of
from tests.services.days.people import People

READS = '"{}" reads schema analytics and nothing else, each statement within {} s\n'
WRITES = (
    "INSERT INTO public.upkeep (task) VALUES ('x')",
    "UPDATE public.policy_state SET pulls = 0",
    "DELETE FROM public.reward_ledger",
    "TRUNCATE public.tips",
    "INSERT INTO analytics.tip_scores (user_id) VALUES ('x')",
    "UPDATE analytics.tip_scores SET reward = 1",
    "DELETE FROM analytics.tip_scores",
    "CREATE TABLE public.own (n integer)",
    "CREATE TABLE analytics.own (n integer)",
    "CREATE TABLE rollup.own (n integer)",
    "CREATE TEMPORARY TABLE own (n integer)",
    "CREATE SCHEMA own",
    "SELECT nextval('public.feature_history_order')",
    "SELECT 1 FROM public.policy_state FOR UPDATE",
    "COPY (SELECT 1) TO '/tmp/own'",
    "SET ROLE postgres",
)


@pytest.fixture
def name(postgresql: psycopg.Connection[Any]) -> Iterator[str]:
    """A role that is not there yet, and will not be there afterwards."""
    with roles(postgresql, "analyst") as [analyst]:
        yield analyst


class roles:  # noqa: N801 - used like a function
    """Names of roles of this test's own; whichever are there in the end are dropped."""

    def __init__(self, connection: psycopg.Connection[Any], *names: str) -> None:
        self.dsn = connection.info.dsn
        self.names = [f"{name}_{connection.info.dbname}" for name in names]

    def __enter__(self) -> list[str]:
        return self.names

    def __exit__(self, *_: object) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for name in self.names:
                if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone() is not None:
                    for statement in ("REASSIGN OWNED BY {} TO CURRENT_USER", "DROP OWNED BY {}", "DROP ROLE {}"):
                        connection.execute(SQL(statement).format(Identifier(name)))


def grant(url: str, name: str, seconds: float = 60) -> Done:
    """Run the command."""
    return oo_ml("db", "grant-analyst", name, OO_ML_DATABASE_URL=url, OO_ML_ANALYST_STATEMENT_TIMEOUT=seconds)


def connect(url: str, name: str) -> psycopg.Connection[Any]:
    """Connect as a role; each statement is a transaction."""
    return psycopg.connect(url, user=name, autocommit=True)


def as_superuser(url: str, *statements: str) -> None:
    """Do something to roles or rights."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def is_there(url: str, name: str) -> bool:
    """Whether there is such a role."""
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone() is not None


def test_an_analyst_reads_every_report(db: Engine, database_url: str, name: str) -> None:
    """By its name alone; and the aggregates estimate whatever is asked of them."""
    People(db, 31).live(40)
    assert grant(database_url, name).code == 0
    with connect(database_url, name) as analyst:
        for view in VIEWS:
            found = analyst.execute(SQL("SELECT * FROM {}").format(Identifier(view))).fetchall()
            assert found or view == "prompt_costs"
        [n] = analyst.execute("SELECT (snips(reward, propensity, propensity)).n FROM tip_scores").fetchone() or [0]
        assert n > 0
        everything = "SELECT (ips(1, 1, 1)).n, (dr(1, 1, 1, 1, 1)).n, ess(1, 1), wilson_low(0.5, 2), two_sided_p(3)"
        assert analyst.execute(everything.encode()).fetchone() is not None
        shown = {name: analyst.execute(f"SHOW {name}".encode()).fetchone() for name in ("jit", "statement_timeout")}
        assert shown == {"jit": ("off",), "statement_timeout": ("1min",)}


def test_an_analyst_is_refused_everywhere_else(db: Engine, database_url: str, name: str) -> None:
    """Every other table and view can't be read, nothing can be written: told not to be read only, neither."""
    People(db, 32).live(10)
    assert grant(database_url, name).code == 0
    with connect(database_url, name) as analyst:
        others = analyst.execute(
            """
            SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'v', 'S') AND n.nspname IN ('public', 'rollup')
            """
        ).fetchall()
        assert {"policy_state", "feature_history_default", "alembic_version", "uncounted", "daily_delays"} <= {
            table for _, table in others
        }
        for other in others:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                analyst.execute(SQL("SELECT * FROM {}").format(Identifier(*other)))
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            analyst.execute("CREATE TEMPORARY TABLE own (n integer)")
        analyst.execute("SET default_transaction_read_only = off")
        for statement in WRITES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                analyst.execute(statement.encode())


def test_a_long_statement_is_ended(database_url: str, name: str) -> None:
    """After OO_ML_ANALYST_STATEMENT_TIMEOUT, which whoever runs the command again sets anew."""
    assert grant(database_url, name, 0.05).out.endswith(READS.format(name, 0.05))
    with connect(database_url, name) as analyst, pytest.raises(psycopg.errors.QueryCanceled):
        analyst.execute("SELECT count(*) FROM generate_series(1, 1000000000)")
    assert grant(database_url, name, 7).out == READS.format(name, 7)
    with connect(database_url, name) as analyst:
        assert analyst.execute("SHOW statement_timeout").fetchone() == ("7s",)


def test_twice_is_once(database_url: str, name: str) -> None:
    """It says what it did, and the second time that there was nothing to do."""
    made = (
        f'Made "{name}", which has no password yet: in psql, \\password "{name}" sets one\n'
        f'Took TEMPORARY on "{make_url(database_url).database}" from PUBLIC: '
        "temporary tables are for roles that are granted it\n"
    )
    assert grant(database_url, name) == Done(0, made + READS.format(name, 60), "")
    assert grant(database_url, name) == Done(0, READS.format(name, 60), "")


@pytest.mark.parametrize("odd", ['o"hara; DROP', "a:b %s %(x)s {}", "Ödön's $$", "\\'; --"])
def test_any_name_is_only_a_name(postgresql: psycopg.Connection[Any], database_url: str, odd: str) -> None:
    """Whatever it would mean to SQL."""
    with roles(postgresql, odd) as [name]:
        assert grant(database_url, name).code == 0
        assert not analysts.grant(database_url, make_settings(), name).is_new
        assert is_there(database_url, name)
        with connect(database_url, name) as analyst:
            assert analyst.execute("SELECT current_user, count(*) FROM reaction_rates").fetchone() == (name, 0)


@pytest.mark.parametrize(
    ("before", "sentence"),
    [
        ("ALTER ROLE {other} SUPERUSER; GRANT {other} TO {name}", '"{name}" as a member of "{other}" is a superuser'),
        ("ALTER ROLE {name} SUPERUSER", '"{name}" is a superuser'),
        ("ALTER ROLE {name} CREATEROLE", '"{name}" may create roles'),
        ("ALTER ROLE {name} REPLICATION", '"{name}" may copy the whole server'),
        (
            "GRANT pg_execute_server_program TO {name}",
            '"{name}" as a member of "pg_execute_server_program" may reach files and programs of the server',
        ),
        ("ALTER TABLE tips OWNER TO {name}", '"{name}" owns tips'),
        (
            "ALTER TABLE tips OWNER TO {other}; GRANT {other} TO {name}",
            '"{name}" as a member of "{other}" owns tips',
        ),
        ("GRANT INSERT ON upkeep TO {name}", '"{name}" has the right to INSERT on upkeep'),
        (
            "GRANT UPDATE (weight) ON prompt_versions TO {name}",
            '"{name}" has the right to UPDATE on prompt_versions',
        ),
        (
            "GRANT DELETE ON feature_history_default TO {name}",
            '"{name}" has the right to DELETE on feature_history_default',
        ),
        ("GRANT UPDATE ON analytics.tip_scores TO {name}", '"{name}" has the right to UPDATE on analytics.tip_scores'),
        (
            "ALTER ROLE {name} NOINHERIT; GRANT TRUNCATE ON generations TO {other}; GRANT {other} TO {name}",
            '"{name}" as a member of "{other}" has the right to TRUNCATE on generations',
        ),
        ("GRANT pg_write_all_data TO {name}", '"{name}" has the right to '),
        ("GRANT SELECT ON policy_state TO {name}", '"{name}" has the right to SELECT on policy_state'),
        ("GRANT SELECT ON rollup.uncounted TO PUBLIC", '"{name}" has the right to SELECT on rollup.uncounted'),
        (
            "GRANT USAGE ON SEQUENCE reward_ledger_order TO {name}",
            '"{name}" has the right to USAGE on reward_ledger_order',
        ),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", '"{name}" may create tables in schema public'),
        ("GRANT CREATE ON DATABASE {database} TO {name}", '"{name}" may create schemas in database '),
        ("GRANT TEMPORARY ON DATABASE {database} TO {name}", '"{name}" may make temporary tables in database '),
    ],
)
def test_whoever_may_do_more_is_refused(
    postgresql: psycopg.Connection[Any], database_url: str, before: str, sentence: str
) -> None:
    """In a sentence that says what it is; and nothing has happened."""
    with roles(postgresql, "analyst", "other") as [name, other]:
        words = {"name": f'"{name}"', "other": f'"{other}"', "database": f'"{postgresql.info.dbname}"'}
        as_superuser(database_url, f'CREATE ROLE "{name}" LOGIN; CREATE ROLE "{other}"', before.format(**words))
        with pytest.raises(OoMlError) as refused:
            analysts.grant(database_url, make_settings(), name)
        assert refused.value.message.startswith(sentence.format(name=name, other=other))
        assert refused.value.message.endswith("; an analyst reads schema analytics and may do nothing else")
        as_superuser(database_url, f'ALTER ROLE "{name}" NOSUPERUSER; REVOKE "{other}" FROM "{name}"')
        row = postgresql.execute("SELECT has_table_privilege(%s, 'analytics.tip_scores', 'SELECT')", [name]).fetchone()
        assert row == (False,)


def test_the_caller_is_no_analyst(database_url: str) -> None:
    """The owner of the tables would lock himself out."""
    done = grant(database_url, "postgres")
    assert done == Done(
        1, "", 'error: "postgres" is a superuser; an analyst reads schema analytics and may do nothing else\n'
    )


def test_as_an_owner_who_is_no_superuser(empty_postgresql: psycopg.Connection[Any]) -> None:
    """Who owns the database and may make roles needs nothing more; whoever lacks something is told what."""
    with roles(empty_postgresql, "owner", "analyst", "others", "clerk") as [owner, analyst, others, clerk]:
        superuser = url_of(empty_postgresql)
        as_superuser(
            superuser,
            f'CREATE ROLE "{owner}" LOGIN; CREATE ROLE "{others}" LOGIN; CREATE ROLE "{clerk}" LOGIN CREATEROLE',
            f'ALTER DATABASE "{empty_postgresql.info.dbname}" OWNER TO "{owner}"',
        )
        url = make_url(superuser).set(username=owner).render_as_string()
        not_migrated = "error: The database has not been migrated to this release: run `oo-ml db upgrade`\n"
        assert grant(url, analyst) == Done(1, "", not_migrated)
        migrations.upgrade(url, make_settings())
        assert grant(url, analyst) == Done(
            1,
            "",
            f'error: "{owner}" may neither make roles nor limit them: do this as a superuser, '
            f'or have one say ALTER ROLE "{owner}" CREATEROLE\n',
        )
        as_superuser(superuser, f'ALTER ROLE "{owner}" CREATEROLE')
        assert grant(url, analyst).out.endswith(READS.format(analyst, 60))
        assert grant(url, analyst) == Done(0, READS.format(analyst, 60), "")
        with connect(superuser, analyst) as connection:
            assert connection.execute("SELECT count(*) FROM tip_scores").fetchone() == (0,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT FROM public.tips")
        assert grant(url, others) == Done(
            1,
            "",
            f'error: "{owner}" may not limit "{others}", which somebody else has made: do this as a superuser, '
            f'or have one say GRANT "{others}" TO "{owner}" WITH ADMIN OPTION\n',
        )
        as_superuser(superuser, f'GRANT "{others}" TO "{owner}" WITH ADMIN OPTION')
        assert grant(url, others) == Done(0, READS.format(others, 60), "")
        done = grant(make_url(superuser).set(username=clerk).render_as_string(), analyst)
        assert done == Done(
            1,
            "",
            f'error: "{clerk}" may not grant anything in schema analytics: do this as "{owner}", its owner\n',
        )
        assert grant(url, owner).err.startswith(f'error: "{owner}" may create roles; ')


def test_views_of_later_releases_are_included(database_url: str, name: str) -> None:
    """What is added to the schema is granted already; where all of it was dropped, the command is run again."""
    migrated = make_settings()
    assert grant(database_url, name).code == 0
    as_superuser(
        database_url,
        "CREATE FUNCTION rollup.later() RETURNS integer LANGUAGE sql RETURN 7",
        "CREATE VIEW analytics.later AS SELECT rollup.later() AS n",
        "REVOKE EXECUTE ON FUNCTION rollup.later FROM PUBLIC",
    )
    with connect(database_url, name) as analyst:
        assert analyst.execute("SELECT n FROM later").fetchone() == (7,)
    migrations.downgrade(database_url, migrated, "0006")
    migrations.upgrade(database_url, migrated)
    with connect(database_url, name) as analyst:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute("SELECT FROM analytics.tip_scores")
        assert grant(database_url, name) == Done(0, READS.format(name, 60), "")
        analyst.execute("SELECT FROM analytics.tip_scores")


def test_a_server_that_gives_everybody_nothing(database_url: str, name: str) -> None:
    """Where PUBLIC has lost its usual rights, the analyst is granted those that are needed."""
    database = make_url(database_url).database
    as_superuser(
        database_url,
        f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC',
        "REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA analytics, rollup FROM PUBLIC",
    )
    assert grant(database_url, name).code == 0
    with connect(database_url, name) as analyst:
        for view in VIEWS:
            analyst.execute(SQL("SELECT * FROM {}").format(Identifier(view)))


def test_a_group_of_analysts(postgresql: psycopg.Connection[Any], database_url: str) -> None:
    """A role that can't log in is for its members, who bring limits of their own."""
    with roles(postgresql, "analysts", "member") as [group, member]:
        as_superuser(database_url, f'CREATE ROLE "{group}"; CREATE ROLE "{member}" LOGIN IN ROLE "{group}"')
        done = grant(database_url, group)
        assert f'"{group}" can\'t log in: its members read what it may, with limits of their own\n' in done.out
        with connect(database_url, member) as analyst:
            assert analyst.execute("SELECT count(*) FROM analytics.tip_scores").fetchone() == (0,)


def test_what_no_role_can_be_called(database_url: str) -> None:
    """Said before anything happens; PostgreSQL would cut a name that is too long, and grant it to somebody else."""
    for name in ("", "tab\tbed"):
        done = grant(database_url, name)
        assert (done.code, "no role can be called so" in done.err) == (2, True)
    assert grant(database_url, "ä" * 32) == Done(1, "", "error: The name of a role has at most 63 bytes\n")
    assert grant(database_url, "pg_analyst") == Done(
        1, "", 'error: PostgreSQL refused: 42939 role name "pg_analyst" is reserved\n'
    )
