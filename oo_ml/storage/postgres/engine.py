"""Connections to PostgreSQL: every wait has a limit, results are binary, and a broken connection leaves the pool."""

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg.pq import Format, TransactionStatus
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.pool import QueuePool

from oo_ml.settings import Settings
from oo_ml.storage.postgres import binary_columns, float_arrays, idle
from oo_ml.storage.postgres.address import parse_url
from oo_ml.storage.postgres.dialect import DRIVER
from oo_ml.storage.postgres.limits import milliseconds
from oo_ml.storage.postgres.parameters import connection_parameters, named_options
from oo_ml.storage.schema import schema_names


class _BinaryCursor(psycopg.Cursor[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed to the base class
        super().__init__(*args, **kwargs)
        self.format = Format.BINARY


class _BinaryServerCursor(psycopg.ServerCursor[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed to the base class
        super().__init__(*args, **kwargs)
        self.format = Format.BINARY


_SNAPSHOT: Final = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_LOCK_WAIT: Final = text("SELECT set_config('lock_timeout', :limit, true)")


def create(  # noqa: PLR0913 - the database, and the ways in which the engines differ
    url: str,
    settings: Settings,
    *,
    threads: int,
    read_only: bool = False,
    long: bool = False,
    lanes: bool = False,
) -> Engine:
    """Return an engine with a pool of one connection for each thread.

    Args:
        url: the database.
        settings: every limit.
        threads: number of threads that may use the engine at the same time.
        read_only: begin read-only transactions.
        long: limit statements by OO_ML_LONG_TIMEOUT instead of OO_ML_STATEMENT_TIMEOUT.
        lanes: limit waits for row locks by OO_ML_LANE_LOCK_TIMEOUT instead of OO_ML_LOCK_TIMEOUT; plan once.

    Raises:
        ConfigurationError: `url` is not the address of a PostgreSQL server.
    """
    address = parse_url(url)
    session = _session_settings(lanes=lanes)
    # A pooler gives each transaction another session, so what a session is set to has to be set in the transaction.
    pooler = settings.database_prepare_threshold < 0
    limits = _limits(settings, long=long, lanes=lanes) | (session if pooler else {})
    engine = create_engine(
        address.set(drivername=DRIVER),
        begin=_begin_statements(_override(limits, named_options(address), lanes=lanes), read_only),
        # Ids and tips are users' data and must not appear in a log.
        hide_parameters=True,
        pool_size=threads,
        max_overflow=0,
        pool_timeout=settings.request_timeout,
        # Instead of SQLAlchemy's reset: `_end_transaction`.
        pool_reset_on_return=None,
        connect_args=_connect_arguments(settings, address, {} if pooler else session),
        # No column is an hstore, and SQLAlchemy would ask for that type on the first connection.
        use_native_hstore=False,
    )
    event.listen(engine, "connect", _set_formats)
    event.listen(engine, "reset", _end_transaction)
    idle.watch(engine, settings.database_idle_check)
    schema_names.translate_statements(engine, settings)
    return engine


def count_connections(engine: Engine) -> tuple[int, int, int]:
    """Return the number of connections that are in use, those that are idle, and their limit."""
    pool = engine.pool
    assert isinstance(pool, QueuePool)  # noqa: S101 - `create` makes no other
    return pool.checkedout(), pool.checkedin(), pool.size()


def _limits(settings: Settings, *, long: bool, lanes: bool) -> dict[str, str]:
    """Return PostgreSQL's limits for each transaction, by name."""
    seconds = {
        "lock_timeout": settings.lane_lock_timeout if lanes else settings.lock_timeout,
        "statement_timeout": settings.long_timeout if long else settings.statement_timeout,
        # A process that stops between two statements must not keep its row locks.
        "idle_in_transaction_session_timeout": settings.long_timeout if long else settings.request_timeout,
    }
    return {name: str(milliseconds(limit)) for name, limit in seconds.items()}


def _session_settings(*, lanes: bool) -> dict[str, str]:
    """Return the settings of a session, by name."""
    chosen = {
        "timezone": "UTC",
        # Statements are too short to win back the cost of compiling them or of starting parallel workers.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
    }
    if lanes:
        # A lane's statements take a batch as arrays. The best plan is the same for one row and for a thousand.
        chosen["plan_cache_mode"] = "force_generic_plan"
    return chosen


def _override(chosen: Mapping[str, str], named: Mapping[str, str], *, lanes: bool) -> dict[str, str]:
    """Return the settings of a transaction with the values that the address names; a pooler may drop its `options`."""
    # The waits of a lane are a part of how lanes work, so the address does not change them.
    kept = {"lock_timeout"} if lanes else set()
    return {name: value if name in kept else named.get(name, value) for name, value in chosen.items()}


def _begin_statements(chosen: Mapping[str, str], read_only: bool) -> str:  # noqa: FBT001
    """Return BEGIN and the settings of the transaction, which go to the server together (ADR 14)."""
    begin = "BEGIN READ ONLY" if read_only else "BEGIN"
    quoted = {name: value.replace("'", "''") for name, value in chosen.items()}
    return "; ".join([begin, *(f"SET LOCAL {name} = '{value}'" for name, value in quoted.items())])


def _connect_arguments(settings: Settings, address: URL, session: Mapping[str, str]) -> dict[str, Any]:
    """Return psycopg's arguments for a new connection, whose session has the settings `session`."""
    threshold = settings.database_prepare_threshold
    return {
        **connection_parameters(
            address, application="oo-ml", timeout=settings.database_connect_timeout, options=session
        ),
        # The dialect begins transactions, not psycopg.
        "autocommit": True,
        "cursor_factory": _BinaryCursor,
        "prepare_threshold": None if threshold < 0 else threshold,
    }


def _set_formats(connection: psycopg.Connection[Any], _: object) -> None:
    """Make a new connection exchange arrays and results in binary."""
    float_arrays.register(connection)
    binary_columns.register(connection)
    connection.server_cursor_factory = _BinaryServerCursor


def _end_transaction(connection: psycopg.Connection[Any], _record: object, _state: object) -> None:
    """Roll back what a connection left open that returns to the pool; almost always nothing."""
    # Otherwise each use would prepare a ROLLBACK, and then see that there is nothing to roll back.
    if connection.pgconn.transaction_status != TransactionStatus.IDLE:
        connection.rollback()


def snapshot(connection: Connection) -> None:
    """Make all later reads of the transaction see the same snapshot. This must be its first statement."""
    connection.execute(_SNAPSHOT)


def limit_lock_wait(connection: Connection, seconds: float) -> None:
    """Limit each wait for a row lock, for the rest of the transaction, to `seconds`."""
    connection.execute(_LOCK_WAIT, {"limit": str(milliseconds(seconds))})
