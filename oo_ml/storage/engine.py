"""Connections to PostgreSQL: every wait has a limit, results come in binary, a broken connection leaves the pool."""

import math
from typing import Any

import psycopg
from psycopg.pq import Format
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from oo_ml.errors import ConfigurationError
from oo_ml.settings import Settings
from oo_ml.storage import arrays


class _BinaryCursor(psycopg.Cursor[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the base class's own, passed on
        super().__init__(*args, **kwargs)
        self.format = Format.BINARY


def parse_url(url: str) -> URL:
    """Return `url` for SQLAlchemy, whatever alias of PostgreSQL it starts with.

    Raises:
        ConfigurationError: it isn't an address of a PostgreSQL server.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Their own messages quote the address, password included.
        raise ConfigurationError("OO_ML_DATABASE_URL is not a database address") from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ConfigurationError(f"OO_ML_DATABASE_URL must name PostgreSQL, not {parsed.get_backend_name()}")
    return parsed.set(drivername="postgresql+psycopg")


def milliseconds(seconds: float) -> int:
    """Return a limit as PostgreSQL takes it; never 0, which would mean none."""
    return max(1, math.ceil(seconds * 1000))


def create(url: str, settings: Settings, *, threads: int, read_only: bool = False) -> Engine:
    """Return an engine whose pool holds one connection a thread."""
    options: dict[str, object] = {
        "statement_timeout": milliseconds(settings.statement_timeout),
        "lock_timeout": milliseconds(settings.lock_timeout),
        # A worker that dies between two statements must not keep its row locks.
        "idle_in_transaction_session_timeout": milliseconds(settings.request_timeout),
        "timezone": "UTC",
    }
    if read_only:
        options["default_transaction_read_only"] = "on"
    engine = create_engine(
        parse_url(url),
        # Ids and tips are people's: they don't belong into a log.
        hide_parameters=True,
        pool_size=threads,
        max_overflow=0,
        pool_timeout=settings.request_timeout,
        connect_args={
            "application_name": "oo-ml",
            "connect_timeout": settings.database_connect_timeout,
            "cursor_factory": _BinaryCursor,
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            "prepare_threshold": None
            if settings.database_prepare_threshold < 0
            else settings.database_prepare_threshold,
        },
    )
    event.listen(engine, "connect", lambda connection, _: arrays.register(connection))
    return engine
