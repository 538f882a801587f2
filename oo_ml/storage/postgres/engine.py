"""Connections to PostgreSQL: every wait has a limit, results come in binary, a broken connection leaves the pool."""

import math
from typing import Any, Final

import psycopg
from psycopg.pq import Format
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError

from oo_ml.errors import ConfigurationError
from oo_ml.settings import Settings
from oo_ml.storage.postgres import binary_columns, float_arrays
from oo_ml.storage.schema import schema_names


class _BinaryCursor(psycopg.Cursor[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the base class's own, passed on
        super().__init__(*args, **kwargs)
        self.format = Format.BINARY


class _BinaryServerCursor(psycopg.ServerCursor[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the base class's own, passed on
        super().__init__(*args, **kwargs)
        self.format = Format.BINARY


class Dialect(PGDialect_psycopg):
    """SQLAlchemy's dialect for psycopg, whose BEGIN sets the limits of the transaction in the same round trip.

    A limit of the session does not reach the other servers of a distributed database, and is lost behind PgBouncer.
    """

    supports_statement_cache = True

    def __init__(self, begin: str, **arguments: Any) -> None:  # noqa: ANN401 - the base class's own, passed on
        """Keep `begin`, the statements that begin a transaction."""
        super().__init__(**arguments)  # type: ignore[no-untyped-call]
        self._begin = begin

    def do_begin(self, dbapi_connection: DBAPIConnection) -> None:
        """Begin a transaction."""
        driver: Any = dbapi_connection
        # PostgreSQL takes several statements at once only unprepared, and if the result is asked for as text.
        psycopg.Cursor[Any](driver.driver_connection).execute(self._begin, prepare=False)


registry.register("postgresql.oo_ml", __name__, "Dialect")

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
    lanes: bool = False,
) -> Engine:
    """Return an engine whose pool holds one connection for each thread.

    Args:
        url: the database.
        settings: every limit.
        threads: how many threads may use it at once.
        read_only: whether its transactions may only read.
        long: whether its statements have OO_ML_LONG_TIMEOUT rather than OO_ML_STATEMENT_TIMEOUT.
        lanes: whether it is the lanes' engine, which waits OO_ML_LANE_LOCK_TIMEOUT for a lock, not OO_ML_LOCK_TIMEOUT.

    Raises:
        ConfigurationError: `url` isn't an address of a PostgreSQL server.
    """
    options = {
        "timezone": "UTC",
        # No statement runs long enough to win back the cost of compiling it, or of starting processes for it.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
    }
    if lanes:
        # A lane's statements take whole batches. They do the same for one row and a thousand, so one plan is enough.
        options["plan_cache_mode"] = "force_generic_plan"
    limits = {
        "lock_timeout": settings.lane_lock_timeout if lanes else settings.lock_timeout,
        "statement_timeout": settings.long_timeout if long else settings.statement_timeout,
        # A worker that dies between two statements must not keep its row locks.
        "idle_in_transaction_session_timeout": settings.long_timeout if long else settings.request_timeout,
    }
    engine = create_engine(
        parse_url(url).set(drivername="postgresql+oo_ml"),
        begin="; ".join(
            [
                "BEGIN READ ONLY" if read_only else "BEGIN",
                *(f"SET LOCAL {name} = {milliseconds(limit)}" for name, limit in limits.items()),
            ]
        ),
        # Ids and tips are users' data and don't belong in a log.
        hide_parameters=True,
        pool_size=threads,
        max_overflow=0,
        pool_timeout=settings.request_timeout,
        connect_args={
            "application_name": "oo-ml",
            # psycopg itself begins no transaction: the dialect does.
            "autocommit": True,
            # Whatever PGCLIENTENCODING says: ids and tips are text in any language.
            "client_encoding": "UTF8",
            "connect_timeout": settings.database_connect_timeout,
            "cursor_factory": _BinaryCursor,
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            "prepare_threshold": None
            if settings.database_prepare_threshold < 0
            else settings.database_prepare_threshold,
        },
    )
    event.listen(engine, "connect", _prepare)
    schema_names.translate_statements(engine, settings)
    return engine


def snapshot(connection: Connection) -> None:
    """Make all that the transaction reads from here on be as it is at one moment; its first statement must be this."""
    connection.execute(_SNAPSHOT)


def limit_lock_wait(connection: Connection, seconds: float) -> None:
    """Make every statement of the transaction wait for a row lock no longer than `seconds`."""
    connection.execute(_LOCK_WAIT, {"limit": str(milliseconds(seconds))})


def _prepare(connection: psycopg.Connection[Any], _: object) -> None:
    float_arrays.register(connection)
    binary_columns.register(connection)
    connection.server_cursor_factory = _BinaryServerCursor
