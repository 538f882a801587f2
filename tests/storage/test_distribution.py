"""Rules that keep the schema ready for a distributed PostgreSQL (ADR 14), checked without one."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pglast
import psycopg
import pytest
from pglast import ast
from sqlalchemy import Engine, ForeignKeyConstraint, TextClause, UniqueConstraint, event
from sqlalchemy.dialects.postgresql import psycopg as dialect

import oo_ml
from oo_ml.storage.postgres import engine
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.schema import migrate
from oo_ml.storage.schema.all_tables import metadata
from oo_ml.storage.schema.column_types import LOCAL, REFERENCE, USERS
from tests.conftest import make_settings
from tests.distribution import USERS_TABLES, parse, relations, unfit_assignments, unfit_queries

SCRIPTS: Final = sorted((Path(__file__).parents[2] / "alembic" / "sql").glob("*/*.sql"))


def find_statements(kind: type) -> Iterator[Any]:
    """Yield every statement of a kind in the scripts of the migrations."""
    for script in SCRIPTS:
        yield from (statement for statement in parse(script.read_text("utf-8")) if isinstance(statement, kind))


def test_placement() -> None:
    """Rule 1: each table declares its placement, and tables with a user_id are distributed by it."""
    for table in metadata.tables.values():
        assert table.info in (USERS, REFERENCE, LOCAL), table.name
        assert ("user_id" in table.c) == (table.info == USERS), table.name


def test_declaration_of_users_tables(postgresql: psycopg.Connection[Any]) -> None:
    """Rules 1 and 2: every table with a user_id is declared, because erasing goes over the declarations."""
    found = postgresql.execute(
        """
        SELECT 'oo_ml.' || c.relname FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped
        WHERE c.relnamespace = 'oo_ml'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        """
    ).fetchall()
    assert {name for (name,) in found} == USERS_TABLES


@pytest.mark.parametrize("name", sorted(USERS_TABLES))
def test_keys_of_users_tables(name: str) -> None:
    """Rule 1: user_id, compared as bytes, is first in the primary key and unique indexes, and in foreign keys."""
    table = metadata.tables[name]
    assert str(table.c.user_id.type) == 'TEXT COLLATE "C"'
    keys: list[Any] = [table.primary_key, *(one for one in table.constraints if isinstance(one, UniqueConstraint))]
    for key in (*keys, *(index for index in table.indexes if index.unique)):
        assert next(iter(key.columns)).name == "user_id", key
    for constraint in table.constraints:
        if isinstance(constraint, ForeignKeyConstraint) and constraint.referred_table.info == USERS:
            pairs = {(one.parent.name, one.column.name) for one in constraint.elements}
            assert ("user_id", "user_id") in pairs
        elif isinstance(constraint, ForeignKeyConstraint):
            assert constraint.referred_table.info == REFERENCE


def test_levels_of_partitions(postgresql: psycopg.Connection[Any]) -> None:
    """Rule 1: no partition has partitions."""
    deep = (
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'oo_ml'::regnamespace AND relkind = 'p' AND relispartition"
    )
    assert postgresql.execute(deep).fetchone() == (0,)


def test_split_into_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 2: scripts are split as PostgreSQL's parser does, also with semicolons in comments, quotes and bodies."""
    # A migration would do this, but may not have run in this process.
    monkeypatch.syspath_prepend(SCRIPTS[0].parents[2])
    from migration_helpers import statements  # noqa: PLC0415 - in alembic/, which is no package

    tricky = """
        -- one; two
        SELECT ';', "a;b" FROM (VALUES (1)) AS v ("a;b"); /* ; */
        CREATE FUNCTION f() RETURNS text LANGUAGE sql BEGIN ATOMIC
            SELECT CASE WHEN true THEN CASE WHEN false THEN 'END;' END ELSE '' END;
        END;
        DO $a$ BEGIN PERFORM $b$;$b$; END $a$;
    """
    for script in (tricky, *(path.read_text("utf-8") for path in SCRIPTS)):
        assert list(map(parse, statements(script))) == [[statement] for statement in parse(script)]
    with pytest.raises(ValueError, match="without a semicolon: SELECT 1"):
        list(statements("SELECT 2; SELECT 1 -- ;"))


def test_single_statements(empty_database_url: str) -> None:
    """Rule 2: upgrade and downgrade send one statement at a time, and an ALTER TABLE has one subcommand."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        migrate.upgrade(empty_database_url, make_settings())
        migrate.downgrade(empty_database_url, make_settings(), "base")
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    parsed: list[list[Any]] = [parse(statement) for statement in sent]
    assert sum(isinstance(one, ast.CreateStmt) for [one] in parsed) > 15
    assert [one for [one] in parsed if isinstance(one, ast.AlterTableStmt) and len(one.cmds or ()) > 1] == []


def test_views() -> None:
    """Rule 3: no LATERAL without FROM, no OFFSET, joins by user_id, and users' rows grouped before a UNION ALL."""
    users = set(USERS_TABLES)
    looked_at = 0
    for statement in (*find_statements(ast.ViewStmt), *find_statements(ast.CreateFunctionStmt)):
        body = statement.query if isinstance(statement, ast.ViewStmt) else statement.sql_body
        if body is None:
            continue
        looked_at += 1
        assert list(unfit_queries(body, frozenset(users))) == []
        if isinstance(statement, ast.ViewStmt) and relations(body) & users and " GROUP BY " not in _sql(body):
            view: Any = statement.view
            users.add(f"{view.schemaname}.{view.relname}")
    assert looked_at > 30
    assert {"rollup.decision_cells", "rollup.arrival_cells", "analytics.tip_scores"} <= users


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT 1 FROM oo_ml.tips AS t CROSS JOIN LATERAL (SELECT t.place + 1 AS n) AS n", "LATERAL"),
        ("SELECT 1 FROM (SELECT 1 FROM oo_ml.tips OFFSET 0) AS t", "OFFSET"),
        ("SELECT 1 FROM oo_ml.tips AS t JOIN oo_ml.generations AS g ON g.generation_id = t.generation_id", "join"),
        ("SELECT 1 FROM oo_ml.tips AS t, oo_ml.generations AS g WHERE g.position = 1", "join"),
        ("SELECT user_id FROM oo_ml.tips UNION ALL SELECT user_id FROM oo_ml.generations", "UNION ALL"),
    ],
)
def test_unfit_views(query: str, why: str) -> None:
    """Rule 3 finds each kind of query that a distributed database refuses or runs for minutes."""
    [statement] = parse(query)
    [found] = unfit_queries(statement, USERS_TABLES)
    assert found.startswith(why)


def test_assignments() -> None:
    """Rule 4: no statement sets a column to a volatile function, a subquery or an array slice."""
    texts = [*_find_statements_of_the_code(), *_updates_in_functions()]
    updates = [one for text in texts for one in parse(text) if "SET" in _sql(one)]
    assert len(updates) > 10
    assert [found for one in updates for found in unfit_assignments(one)] == []


@pytest.mark.parametrize(
    "value",
    [
        "now()",
        "CURRENT_TIMESTAMP",
        "random()",
        "nextval('s')",
        "(SELECT 1)",
        "x[1:2]",
        "CASE WHEN (SELECT true) THEN 1 END",
    ],
)
def test_unfit_assignments(value: str) -> None:
    """Rule 4 finds such assignments in an UPDATE, and in an ON CONFLICT DO UPDATE within a WITH."""
    for statement in (
        f"UPDATE oo_ml.tips SET place = {value}",  # noqa: S608
        f"WITH w AS (INSERT INTO oo_ml.tips VALUES (1) ON CONFLICT (place) DO UPDATE SET place = {value}) SELECT 1",  # noqa: S608
    ):
        [parsed] = parse(statement)
        assert len(unfit_assignments(parsed)) == 1


def test_generic_plans(service_url: str) -> None:
    """Rule 5: only the engine of the lanes forces generic plans."""
    for options, plan in (({"lanes": True}, "force_generic_plan"), ({}, "auto"), ({"long": True}, "auto")):
        own = engine.create(service_url, make_settings(), threads=1, **options)
        with own.connect() as connection:
            assert connection.exec_driver_sql("SHOW plan_cache_mode").scalar() == plan
        own.dispose()


def test_lock_timeout_in_the_transaction(service_url: str) -> None:
    """Rule 5: the limit for row locks is set with BEGIN, because options of a session stay on one server."""
    own = engine.create(service_url, make_settings(lane_lock_timeout=0.25), threads=1, lanes=True)
    with own.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert driver.execute("SHOW lock_timeout").fetchone() == ("0",)
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "250ms"
        connection.rollback()
        assert driver.execute("SHOW lock_timeout").fetchone() == ("0",)
    own.dispose()


def _find_statements_of_the_code() -> Iterator[str]:
    """Yield the text of every statement in the modules of the package."""
    for module in pkgutil.walk_packages(oo_ml.__path__, "oo_ml."):
        if module.name != "oo_ml.__main__":
            for value in vars(importlib.import_module(module.name)).values():
                for one in value.values() if isinstance(value, dict) else (value,):
                    if isinstance(one, Statement):
                        yield one._sql  # noqa: SLF001 - the text that is sent
                    elif isinstance(one, TextClause):
                        yield str(one.compile(dialect=dialect.dialect()))  # type: ignore[no-untyped-call]


def _updates_in_functions() -> Iterator[str]:
    for script in SCRIPTS:
        yield from re.findall(r"\bUPDATE oo_ml\.[^;]*SET[^;]*", script.read_text("utf-8"))


def _sql(statement: Any) -> str:  # noqa: ANN401
    return str(pglast.stream.RawStream()(statement))
