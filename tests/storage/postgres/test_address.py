"""Addresses: every usual scheme is accepted, and an error holds nothing secret."""

import pytest

from oo_ml.errors import ConfigurationError
from oo_ml.storage.postgres.address import parse_url


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
