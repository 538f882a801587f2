"""Migrations: run by one process at a time, safe while a service is running, from a checkout or an installed wheel."""

import io
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeEngine

from oo_ml.errors import (
    ConfigurationError,
    DatabaseTimeoutError,
    OoMlError,
    SchemaNotReadyError,
    UnavailableError,
    UnsuitableDatabaseError,
)
from oo_ml.settings import Settings
from oo_ml.storage.postgres import sqlstates
from oo_ml.storage.postgres.engine import milliseconds, parse_url
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema import database_checks, partitions, schema_names
from oo_ml.storage.schema.column_types import SCHEMA, Float8Array

logger = logging.getLogger(__name__)

# An arbitrary number; every release must use the same one.
ADVISORY_LOCK: Final = 7_021_943_116
_PAUSE: Final = 0.1

# CREATE SCHEMA IF NOT EXISTS needs the right to create schemas even if the schema exists.
CREATE_SCHEMA: Final = """
    DO $$ BEGIN IF to_regnamespace('oo_ml') IS NULL THEN CREATE SCHEMA oo_ml; END IF; END $$
"""
_HAS_VERSION: Final = text("SELECT to_regclass('oo_ml.alembic_version') IS NOT NULL")
_VERSION: Final = text("SELECT version_num FROM oo_ml.alembic_version")


def configured_url(settings: Settings) -> str:
    """Return the URL of the database in the settings.

    Raises:
        ConfigurationError: OO_ML_DATABASE_URL is not set.
    """
    if settings.database_url is None:
        raise ConfigurationError("Set OO_ML_DATABASE_URL, or use `oo-ml db` for the private PostgreSQL")
    return settings.database_url.get_secret_value()


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


def upgrade(url: str, settings: Settings, revision: str = "head") -> None:
    """Migrate up to `revision`. At head, also create the partitions of the coming months."""
    with migration_connection(url, settings) as connection:
        command.upgrade(_config(connection, settings), revision)


def downgrade(url: str, settings: Settings, revision: str) -> None:
    """Migrate down to `revision`; `base` drops everything."""
    with migration_connection(url, settings) as connection:
        command.downgrade(_config(connection, settings), revision)


def check(url: str, settings: Settings) -> None:
    """Compare the database with the declarations of this release.

    Raises:
        CommandError: they differ, or the database is not at head.
    """
    with migration_connection(url, settings) as connection:
        command.check(_config(connection, settings))


def history() -> str:
    """Return one line for each migration, the latest first."""
    output = io.StringIO()
    command.history(_config(stdout=output))
    return output.getvalue()


def sql(revision: str = "head") -> str:
    """Return the migrations as one SQL script, for a database that only its administrators may change."""
    output = io.StringIO()
    command.upgrade(_config(output=output), revision, sql=True)
    return output.getvalue()


@cache
def head() -> str:
    """Return the latest revision of this release."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 - every release has migrations
    return revision


def current(url: str, settings: Settings) -> str | None:
    """Return the revision of the database; None before the first migration."""
    with _connect(_engine(url, settings)) as connection:
        return revision(connection)


def revision(connection: Connection) -> str | None:
    """Return the revision in oo_ml.alembic_version; None before the first migration."""
    if not connection.scalar(_HAS_VERSION):
        return None
    found: str | None = connection.scalar(_VERSION)
    return found


def prepare(connection: Connection, settings: Settings) -> None:
    """Check that the database can be migrated, before anything changes; then create schema oo_ml if it is missing.

    Raises:
        UnsuitableDatabaseError: the database can't be migrated; the message says why and what to do.
    """
    here = database_checks.revision_of_ours(connection, revision(connection), known())
    if here is None:
        database_checks.check_room(connection, settings)
        connection.execute(text(CREATE_SCHEMA))
    connection.commit()


def make_months_ahead(connection: Writing) -> None:
    """Create the missing partitions of the coming months."""
    months = partitions.make_ahead(connection, datetime.now(UTC))
    connection.commit()
    if months:
        logger.info("made partitions %s", ", ".join(months))


def readiness(connection: Connection) -> UnavailableError | None:
    """Return the reason why this release can't use the database; None if it can.

    The database must be at head, or at a later revision of a newer release.
    """
    try:
        here = database_checks.revision_of_ours(connection, revision(connection), known())
    except UnsuitableDatabaseError as error:
        return error
    if here is None or here in known() - {head()}:
        return SchemaNotReadyError()
    return database_checks.missing_reports(connection)


@cache
def known() -> frozenset[str]:
    """Return all revisions of this release."""
    scripts = ScriptDirectory.from_config(_config())
    return frozenset(script.revision for script in scripts.walk_revisions())


# ADR 12
def is_compared(name: str | None, type_: str, _parents: object) -> bool:
    """Tell autogenerate to compare schema oo_ml only, without the partitions of feature_history."""
    if type_ == "schema":
        return name == SCHEMA
    return type_ != "table" or not (name or "").startswith("feature_history_")


def compare_type(
    _context: MigrationContext,
    _inspected_column: object,
    _metadata_column: object,
    inspected_type: TypeEngine[Any],
    metadata_type: TypeEngine[Any],
) -> bool | None:
    """Tell autogenerate that float8[] and Float8Array are the same type; None leaves other types to it."""
    if isinstance(metadata_type, Float8Array):
        return not (isinstance(inspected_type, ARRAY) and isinstance(inspected_type.item_type, DOUBLE_PRECISION))
    return None


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
    engine = create_engine(
        parse_url(url),
        poolclass=NullPool,
        connect_args={
            "application_name": "oo-ml migration",
            "client_encoding": "UTF8",
            "connect_timeout": settings.database_connect_timeout,
        },
    )
    schema_names.translate_statements(engine, settings)
    return engine


def _set(connection: Connection, name: str, value: str) -> None:
    connection.execute(text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value})


def _config(
    connection: Connection | None = None,
    settings: Settings | None = None,
    *,
    output: io.StringIO | None = None,
    stdout: io.StringIO | None = None,
) -> Config:
    # The output of alembic itself is discarded; the caller reports the result.
    config = Config(output_buffer=output, stdout=stdout or io.StringIO())
    scripts = str(_scripts()).replace("%", "%%")
    config.set_main_option("script_location", scripts)
    # For migration_helpers.py, as in alembic.ini.
    config.set_main_option("prepend_sys_path", scripts)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["settings"] = settings
    return config


def _scripts() -> Path:
    package = Path(__file__).parents[2]
    # The wheel carries the migrations inside the package; a checkout has them beside it.
    installed = package / "_alembic"
    return installed if installed.is_dir() else package.parent / "alembic"
