"""Sessions of migrations: one process at a time, safe while a service is running."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from oo_ml.errors import ConfigurationError, DatabaseTimeoutError, OoMlError, SchemaNotReadyError
from oo_ml.settings import Settings
from oo_ml.storage.postgres import sqlstates
from oo_ml.storage.postgres.address import parse_url
from oo_ml.storage.postgres.dialect import DRIVER
from oo_ml.storage.postgres.limits import milliseconds
from oo_ml.storage.postgres.parameters import connection_parameters
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema import revisions, schema_names

# An arbitrary number; every release must use the same one.
ADVISORY_LOCK: Final = 7_021_943_116
_PAUSE: Final = 0.1


@contextmanager
def migration_connection(database: str | Engine | Connection, settings: Settings) -> Iterator[Writing]:
    """Yield a connection that holds the advisory lock of migrations, so no other process migrates.

    A replica that starts while another one migrates waits for the lock, up to OO_ML_MIGRATION_WAIT. The migration runs
    with a short lock_timeout: later queries on a table would queue up behind a migration that waits for it.

    Raises:
        ConfigurationError: the URL is that of a connection pooler.
        DatabaseTimeoutError: another process did not finish, or a table was in use for too long.
        OoMlError: PostgreSQL refused for another reason.
    """
    if isinstance(database, Connection):
        yield Writing(Reading(database))
        return
    engine = database if isinstance(database, Engine) else _engine(database, settings)
    with _connect(engine) as connection:
        _refuse_pooler(connection)
        _wait_for_others(connection, settings.migration_wait)
        _set(connection, "statement_timeout", "0")
        _set(connection, "lock_timeout", f"{milliseconds(settings.migration_lock_timeout)}ms")
        # Every name in SQL is qualified (ADR 13). The search_path of a role called oo_ml would begin with schema oo_ml,
        # and autogenerate would then see its tables as tables without a schema.
        _set(connection, "search_path", "pg_catalog")
        connection.dialect.default_schema_name = "pg_catalog"
        connection.commit()
        yield Writing(Reading(connection))
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()
        # After a failure the lock ends with the connection, which is not pooled.


def current(url: str, settings: Settings) -> str | None:
    """Return the revision of the database; None before the first migration."""
    with _connect(_engine(url, settings)) as connection:
        return revisions.read(connection)


@contextmanager
def _connect(engine: Engine) -> Iterator[Connection]:
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise _outcome(error) from error


def _outcome(error: DBAPIError) -> OoMlError:
    if sqlstates.sqlstate(error) == "55P03":
        return DatabaseTimeoutError(
            "A table was in use for longer than OO_ML_MIGRATION_LOCK_TIMEOUT; rolled back: try again"
        )
    outcome = sqlstates.outcome(error)
    if outcome is None or isinstance(outcome, SchemaNotReadyError):
        # A missing right, or a schema that the migrations don't expect: PostgreSQL's message is the most precise.
        return OoMlError(f"PostgreSQL refused: {sqlstates.description(error)}")
    return outcome


def _refuse_pooler(connection: Connection) -> None:
    # A pooler may give the session to another client between two transactions. The session keeps the advisory lock, and
    # later migrations would wait for it. A pooler is recognised because it reports process ids of its own.
    driver: Any = connection.connection.driver_connection
    if driver.info.backend_pid != connection.scalar(text("SELECT pg_backend_pid()")):
        raise ConfigurationError(
            "OO_ML_DATABASE_URL leads to a connection pooler, and a migration needs a session of its own: "
            "use the address of PostgreSQL itself"
        )


def _wait_for_others(connection: Connection, seconds: float) -> None:
    # Polling avoids a deadlock: a statement that waits keeps its snapshot, and a CREATE INDEX CONCURRENTLY of the
    # process that holds the lock would wait for the end of that snapshot.
    deadline = time.monotonic() + seconds
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}):
        connection.rollback()
        if time.monotonic() > deadline:
            raise DatabaseTimeoutError(
                "Another process is migrating this database and did not finish within OO_ML_MIGRATION_WAIT"
            )
        time.sleep(_PAUSE)


def _engine(url: str, settings: Settings) -> Engine:
    address = parse_url(url)
    timeout = settings.database_connect_timeout
    engine = create_engine(
        address.set(drivername=DRIVER),
        poolclass=NullPool,
        connect_args=connection_parameters(address, application="oo-ml migration", timeout=timeout, options={}),
    )
    schema_names.translate_statements(engine, settings)
    return engine


def _set(connection: Connection, name: str, value: str) -> None:
    connection.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value})
