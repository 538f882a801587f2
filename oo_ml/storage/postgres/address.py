"""The address of a PostgreSQL server, as SQLAlchemy has it."""

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from oo_ml.errors import ConfigurationError


def parse_url(url: str) -> URL:
    """Return `url` for SQLAlchemy. It may start with postgres:// or postgresql://, with or without a driver.

    Raises:
        ConfigurationError: `url` is not the address of a PostgreSQL server.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The messages of these errors contain the address with its password.
        raise ConfigurationError("OO_ML_DATABASE_URL is not a database address") from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ConfigurationError(f"OO_ML_DATABASE_URL must name PostgreSQL, not {parsed.get_backend_name()}")
    return parsed.set(drivername="postgresql+psycopg")
