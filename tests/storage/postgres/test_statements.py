"""Statements of the hot path: any SQL text, and the private call of SQLAlchemy that they use."""

import inspect
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DataError, DBAPIError

from oo_ml.storage.postgres.statements import Statement
from tests.sessions import writing

PERCENT = {
    "alone": "SELECT '%'",
    "at the end of a pattern": "SELECT '100 %' WHERE 'todoist' LIKE 'todo%'",
    "twice": "SELECT '%%'",
    "like a parameter of psycopg": "SELECT '%s %b %t %(a)s %1'",
    "a format": "SELECT format('%I.%s', 'a b', 1)",
    "modulo": "SELECT 7 % 4",
}


@pytest.mark.parametrize("sql", PERCENT.values(), ids=PERCENT)
def test_percent_sign(db: Engine, sql: str) -> None:
    """With and without parameters a percent sign means what it means in SQL."""
    raw: Any
    with writing(db) as connection:
        cursor = connection.connection.cursor()
        cursor.execute(sql)
        raw = cursor.fetchall()
        assert raw
        assert Statement(sql).run(connection, {}) == raw
        beside = sql.replace("SELECT ", "SELECT :given, ", 1)
        assert Statement(beside).run(connection, {"given": "50 %"}) == [("50 %", *row) for row in raw]


def test_private_call_of_sqlalchemy() -> None:
    """SQLAlchemy still has the private call that runs a statement, with the same parameters."""
    call = getattr(Connection, "_cursor_execute", None)
    assert call is not None, "Connection._cursor_execute is gone: rewrite storage/postgres/statements.py"
    parameters = {name: one.default for name, one in inspect.signature(call).parameters.items()}
    empty = inspect.Parameter.empty
    assert parameters == {"self": empty, "cursor": empty, "statement": empty, "parameters": empty, "context": None}, (
        "Connection._cursor_execute has other parameters: rewrite Statement.run in oo_ml/storage/postgres/statements.py"
    )


def test_events_of_a_statement(db: Engine) -> None:
    """A statement begins a transaction, and listeners of SQLAlchemy hear of it before and after."""
    heard = []

    @event.listens_for(db, "before_cursor_execute")
    def before(*arguments: Any) -> None:  # noqa: ANN401 - the event's own
        heard.append(("before", arguments[2]))

    @event.listens_for(db, "after_cursor_execute")
    def after(*arguments: Any) -> None:  # noqa: ANN401 - the event's own
        heard.append(("after", arguments[2]))

    with db.connect() as connection:
        assert Statement("SELECT 1 + :one").run(connection, {"one": 1}) == [(2,)]
        assert connection.in_transaction()
    assert heard == [("before", "SELECT 1 + %(one)s"), ("after", "SELECT 1 + %(one)s")]


def test_error_of_a_statement(db: Engine) -> None:
    """An error has SQLAlchemy's class, and the transaction can be rolled back."""
    with db.connect() as connection:
        with pytest.raises(DataError) as caught:
            Statement("SELECT 1 / CAST(:zero AS integer)").run(connection, {"zero": 0})
        assert not caught.value.connection_invalidated
        connection.rollback()
        assert Statement("SELECT 1").run(connection, {}) == [(1,)]


def test_lost_connection(db: Engine) -> None:
    """A lost connection is invalidated, and the pool hands out another one."""
    with db.connect() as connection:
        [[backend]] = Statement("SELECT pg_backend_pid()").run(connection, {})
        with writing(db) as other:
            other.execute(text("SELECT pg_terminate_backend(:backend, 20000)"), {"backend": backend})
        with pytest.raises(DBAPIError) as caught:
            Statement("SELECT 1").run(connection, {})
        assert caught.value.connection_invalidated
    with db.connect() as connection:
        [[other_backend]] = Statement("SELECT pg_backend_pid()").run(connection, {})
    assert other_backend != backend
