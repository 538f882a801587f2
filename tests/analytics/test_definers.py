"""The reports run with their owner's rights, and a reader can't make them run other code."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Engine, text

from tests.analytics.test_contract import VIEWS
from tests.services.upkeep.daily_sums.counting import NOW
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers

# These come before pg_catalog in the search path. If a report calls one of them, it fails.
TRAPS = """
    CREATE FUNCTION traps.caught(float8) RETURNS float8 LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'caught as %', current_user; END $$;
    CREATE FUNCTION traps.caught(float8, float8) RETURNS float8 LANGUAGE sql RETURN traps.caught($1);
    CREATE FUNCTION traps.caught(float8, integer) RETURNS float8 LANGUAGE sql RETURN traps.caught($1);
    CREATE FUNCTION traps.caught(integer, float8) RETURNS float8 LANGUAGE sql RETURN traps.caught($2);
    CREATE FUNCTION traps.is_caught(float8, float8) RETURNS boolean LANGUAGE sql RETURN traps.caught($1) > 0;
    CREATE FUNCTION traps.is_caught(float8, integer) RETURNS boolean LANGUAGE sql RETURN traps.caught($1) > 0;
    CREATE FUNCTION traps.is_caught_text(text, text) RETURNS boolean LANGUAGE sql RETURN traps.caught(0) > 0;
"""
FUNCTIONS = ("abs", "sqrt", "exp", "ln", "sign")
OPERATORS = ("+", "-", "*", "/")
COMPARISONS = ("<", ">", "=", "<>", "<=", ">=")
PAIRS = (("float8", "float8"), ("float8", "integer"), ("integer", "float8"))


@pytest.fixture
def stranger(postgresql: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection of a reader of the reports who has set traps: functions and operators with built-in names."""
    role = f"stranger_{postgresql.info.dbname}"
    name = Identifier(role)
    with psycopg.connect(postgresql.info.dsn, autocommit=True) as owner:
        owner.execute(SQL("CREATE ROLE {} LOGIN").format(name))
        owner.execute(SQL("CREATE SCHEMA traps AUTHORIZATION {}").format(name))
        owner.execute(SQL("GRANT USAGE ON SCHEMA analytics TO {}").format(name))
        owner.execute(SQL("GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO {}").format(name))
        with psycopg.connect(postgresql.info.dsn, user=role, autocommit=True) as connection:
            connection.execute(TRAPS)
            for statement in generate_traps():
                connection.execute(statement.encode())
            connection.execute("SET search_path = pg_temp, traps, pg_catalog")
            yield connection
        owner.execute(SQL("DROP OWNED BY {}").format(name))
        owner.execute(SQL("DROP ROLE {}").format(name))


def generate_traps() -> Iterator[str]:
    """Yield statements that each set a trap: functions, operators, tables."""
    for function in FUNCTIONS:
        yield f"CREATE FUNCTION traps.{function}(float8) RETURNS float8 LANGUAGE sql RETURN traps.caught($1)"
    for left, right in PAIRS:
        for operator in OPERATORS:
            yield f"CREATE OPERATOR traps.{operator} (FUNCTION = traps.caught, LEFTARG = {left}, RIGHTARG = {right})"
    for left, right in PAIRS[:2]:
        for operator in COMPARISONS:
            yield f"CREATE OPERATOR traps.{operator} (FUNCTION = traps.is_caught, LEFTARG = {left}, RIGHTARG = {right})"
    yield "CREATE OPERATOR traps.= (FUNCTION = traps.is_caught_text, LEFTARG = text, RIGHTARG = text)"


def test_search_path_of_the_reader(db: Engine, stranger: psycopg.Connection[Any]) -> None:
    """Names and operators in reports are bound at creation, whatever the reader's search_path."""
    SimulatedUsers(db, 21, now=NOW).act(60)
    with pytest.raises(psycopg.errors.RaiseException, match="caught as stranger"):
        stranger.execute("SELECT 1::float8 + 1::float8")
    for view in VIEWS:
        with writing(db) as connection:
            expected = connection.scalar(text(f"SELECT count(*) FROM analytics.{view}"))  # noqa: S608 - names of ours
        found = stranger.execute(SQL("SELECT count(*) FROM analytics.{}").format(Identifier(view))).fetchone()
        assert found == (expected,)
    # Read every row and column, so that every number is computed.
    assert len(stranger.execute("SELECT * FROM analytics.loop_health").fetchall()) > 6
