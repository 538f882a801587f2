"""Connections: every spelling of an address works, every wait has a limit, and errors hide secrets."""

import pytest
from sqlalchemy import Engine, text

from oo_ml.errors import ConfigurationError
from oo_ml.storage.postgres.engine import create, parse_url
from tests.conftest import make_settings


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_url_schemes(scheme: str) -> None:
    """Every scheme that hosting services use selects our driver."""
    url = parse_url(f"{scheme}://u:p@h:5433/d?sslmode=require")
    assert url.render_as_string(hide_password=False) == "postgresql+psycopg://u:p@h:5433/d?sslmode=require"


@pytest.mark.parametrize("url", ["", "nonsense:secret", "postgresql://u:secret@h:port/d", "mysql://u:secret@h/d"])
def test_bad_url(url: str) -> None:
    """The error names the setting, and neither it nor its cause shows the value."""
    with pytest.raises(ConfigurationError, match="OO_ML_DATABASE_URL") as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


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
