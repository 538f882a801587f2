"""Engines: a limit on every wait."""

from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from oo_ml.storage.postgres.engine import create
from tests.conftest import make_settings


def test_limits(db: Engine, database_url: str) -> None:
    """Each transaction has the limits of the settings; the readers' is read-only."""
    settings = make_settings(lock_timeout=1, statement_timeout=1.5, request_timeout=1.9)
    engine = create(database_url, settings, threads=1, read_only=True)
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_read_only")
    with engine.connect() as connection:
        shown = [connection.scalars(text(f"SHOW {name}")).one() for name in names]
    engine.dispose()
    assert shown == ["1s", "1500ms", "1900ms", "on"]
    with db.connect() as connection:
        assert connection.scalars(text("SHOW transaction_read_only")).one() == "off"


def test_open_transaction_ends_with_its_use(db: Engine, database_url: str) -> None:
    """A connection that returns to the pool within a transaction is rolled back, and serves the next one."""
    engine = create(database_url, make_settings(), threads=1)
    used = engine.raw_connection()
    cursor = used.cursor()
    cursor.execute("BEGIN")
    cursor.execute("CREATE TABLE left_open ()")
    cursor.execute("SELECT pg_backend_pid()")
    session = cursor.fetchone()
    used.close()
    with engine.begin() as connection:
        assert (connection.scalars(text("SELECT pg_backend_pid()")).one(),) == session
    engine.dispose()
    with db.connect() as connection:
        assert connection.scalars(text("SELECT to_regclass('left_open')")).one() is None


def test_first_connection(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy learns from the start of the session what the server is, and sends no statement to ask."""
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def note(cursor: psycopg.Cursor[Any], query: str, *arguments: Any, **options: Any) -> object:  # noqa: ANN401
        sent.append(query)
        return execute(cursor, query, *arguments, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", note)
    engine = create(database_url, make_settings(), threads=1)
    with engine.connect() as connection:
        version = connection.scalars(text("SHOW server_version_num")).one()
        assert [one.partition(";")[0] for one in sent] == ["BEGIN", "SHOW server_version_num"]
    major, minor = engine.dialect.server_version_info or (0, 0)
    engine.dispose()
    assert f"{major}{minor:04}" == version
