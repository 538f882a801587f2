"""Engines: a limit on every wait."""

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
