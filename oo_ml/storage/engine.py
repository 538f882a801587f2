"""Connections to PostgreSQL: every wait has a limit, results come in binary, a broken connection leaves the pool."""

import math
from typing import Any, Final

import psycopg
from psycopg.pq import Format
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from oo_ml.errors import ConfigurationError
from oo_ml.settings import Settings
from oo_ml.storage import arrays, columns


class _BinaryCursor(psycopg.Cursor[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the base class's own, passed on
        super().__init__(*args, **kwargs)
        self.format = Format.BINARY


class _BinaryServerCursor(psycopg.ServerCursor[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the base class's own, passed on
        super().__init__(*args, **kwargs)
        self.format = Format.BINARY


_SNAPSHOT: Final = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_LOCK_WAIT: Final = text("SELECT set_config('lock_timeout', :limit, true)")


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


def create(  # noqa: PLR0913 - where, and how it differs from the others
    url: str,
    settings: Settings,
    *,
    threads: int,
    read_only: bool = False,
    long: bool = False,
    lock_timeout: float | None = None,
) -> Engine:
    """Return an engine whose pool holds one connection a thread.

    Args:
        url: the database.
        settings: every limit.
        threads: how many may use it at once.
        read_only: whether its transactions may write.
        long: whether its statements have OO_ML_LONG_TIMEOUT rather than OO_ML_STATEMENT_TIMEOUT.
        lock_timeout: longest wait for a lock, if it isn't OO_ML_LOCK_TIMEOUT.

    Raises:
        ConfigurationError: `url` isn't an address of a PostgreSQL server.
    """
    options: dict[str, object] = {
        "statement_timeout": milliseconds(settings.long_timeout if long else settings.statement_timeout),
        "lock_timeout": milliseconds(settings.lock_timeout if lock_timeout is None else lock_timeout),
        # A worker that dies between two statements must not keep its row locks.
        "idle_in_transaction_session_timeout": milliseconds(
            settings.long_timeout if long else settings.request_timeout
        ),
        "timezone": "UTC",
        # Statements take whole batches, so what they do is the same for one row and a thousand: planned once.
        "plan_cache_mode": "force_generic_plan",
        # No statement runs long enough to win back what compiling it, or starting processes for it, costs.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
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
    event.listen(engine, "connect", _prepare)
    return engine


def snapshot(connection: Connection) -> None:
    """Make all that the transaction reads from here on be as it is at one moment; its first statement must be this."""
    connection.execute(_SNAPSHOT)


def limit_lock_wait(connection: Connection, seconds: float) -> None:
    """Make every statement of the transaction wait for a row lock no longer than `seconds`."""
    connection.execute(_LOCK_WAIT, {"limit": str(milliseconds(seconds))})


def _prepare(connection: psycopg.Connection[Any], _: object) -> None:
    arrays.register(connection)
    columns.register(connection)
    connection.server_cursor_factory = _BinaryServerCursor
