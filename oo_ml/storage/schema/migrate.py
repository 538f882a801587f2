"""Migrating: one process at a time, never behind a running service's back, from a checkout or an installed wheel."""

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
from oo_ml.storage.schema import partitions, schema_names, suitability
from oo_ml.storage.schema.column_types import SCHEMA, Float8Array

logger = logging.getLogger(__name__)

# Any number will do, as long as every release uses the same one.
ADVISORY_LOCK: Final = 7_021_943_116
_PAUSE: Final = 0.1

# CREATE SCHEMA IF NOT EXISTS needs the right to create schemas even if the schema exists.
CREATE_SCHEMA: Final = """
    DO $$ BEGIN IF to_regnamespace('oo_ml') IS NULL THEN CREATE SCHEMA oo_ml; END IF; END $$
"""
_HAS_VERSION: Final = text("SELECT to_regclass('oo_ml.alembic_version') IS NOT NULL")
_VERSION: Final = text("SELECT version_num FROM oo_ml.alembic_version")


def configured_url(settings: Settings) -> str:
    """Return the database that the settings name.

    Raises:
        ConfigurationError: they name none.
    """
    if settings.database_url is None:
        raise ConfigurationError("Set OO_ML_DATABASE_URL, or use `oo-ml db` for the private PostgreSQL")
    return settings.database_url.get_secret_value()


@contextmanager
def migration_connection(database: str | Engine | Connection, settings: Settings) -> Iterator[Connection]:
    """Yield a connection on which no other process migrates.

    The advisory lock comes first, under a long limit of its own: a replica that starts while another one migrates
    waits for it. lock_timeout is set only then: a migration that can't get a table gives up quickly, because
    every query that comes after it would queue up behind it.

    Raises:
        ConfigurationError: the connection leads to a pooler.
        DatabaseTimeoutError: another process did not get done, or a table was in use for too long.
        OoMlError: any other refusal of PostgreSQL.
    """
    if isinstance(database, Connection):
        yield database
        return
    engine = database if isinstance(database, Engine) else _engine(database, settings)
    with _connected(engine) as connection:
        _refuse_pooler(connection)
        _wait_for_others(connection, settings.migration_wait)
        _set(connection, "statement_timeout", "0")
        _set(connection, "lock_timeout", f"{milliseconds(settings.migration_lock_timeout)}ms")
        # Every name is qualified. A role called oo_ml would otherwise have the schema of that name in its path, and
        # autogenerate would take its tables for tables without a schema.
        # ADR 13
        _set(connection, "search_path", "pg_catalog")
        connection.dialect.default_schema_name = "pg_catalog"
        connection.commit()
        yield connection
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()
        # A failure lets the lock go with the connection, which is not pooled.


def upgrade(url: str, settings: Settings, revision: str = "head") -> None:
    """Migrate up to `revision`. At head, also make the partitions of the coming months."""
    with migration_connection(url, settings) as connection:
        command.upgrade(_config(connection, settings), revision)


def downgrade(url: str, settings: Settings, revision: str) -> None:
    """Migrate down to `revision`; `base` drops everything."""
    with migration_connection(url, settings) as connection:
        command.downgrade(_config(connection, settings), revision)


def check(url: str, settings: Settings) -> None:
    """Compare the database with the declarations of this release.

    Raises:
        CommandError: they differ, or the database isn't at head.
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
    """Return the revision this release was built for."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 - a release without migrations can't have been built
    return revision


def current(url: str, settings: Settings) -> str | None:
    """Return the revision the database is at; None before the first migration."""
    with _connected(_engine(url, settings)) as connection:
        return revision(connection)


def revision(connection: Connection) -> str | None:
    """Return the revision in oo_ml.alembic_version; None before the first migration."""
    if not connection.scalar(_HAS_VERSION):
        return None
    found: str | None = connection.scalar(_VERSION)
    return found


def prepare(connection: Connection, settings: Settings) -> None:
    """Make sure that the database can be migrated, before anything is changed; then create schema oo_ml if need be.

    Raises:
        UnsuitableDatabaseError: it can't be; the message says why and what to do.
    """
    here = suitability.revision_of_ours(connection, revision(connection), known())
    if here is None:
        suitability.check_room(connection, settings)
        connection.execute(text(CREATE_SCHEMA))
    connection.commit()


def make_months_ahead(connection: Connection) -> None:
    """Make sure that the coming months have partitions."""
    months = partitions.make_ahead(connection, datetime.now(UTC))
    connection.commit()
    if months:
        logger.info("made partitions %s", ", ".join(months))


def readiness(connection: Connection) -> UnavailableError | None:
    """Return why this release can't work on the database; None if it can.

    It can if the database is at head, or ahead of it after the upgrade of a newer release.
    """
    try:
        here = suitability.revision_of_ours(connection, revision(connection), known())
    except UnsuitableDatabaseError as error:
        return error
    if here is None or here in known() - {head()}:
        return SchemaNotReadyError()
    return suitability.missing_reports(connection)


@cache
def known() -> frozenset[str]:
    """Return the revisions that this release knows."""
    scripts = ScriptDirectory.from_config(_config())
    return frozenset(script.revision for script in scripts.walk_revisions())


# ADR 12
def is_compared(name: str | None, type_: str, _parents: object) -> bool:
    """Tell autogenerate to look at schema oo_ml alone, and not at the partitions of feature_history."""
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
    """Tell autogenerate that float8[] and Float8Array are one type; None leaves the rest to it."""
    if isinstance(metadata_type, Float8Array):
        return not (isinstance(inspected_type, ARRAY) and isinstance(inspected_type.item_type, DOUBLE_PRECISION))
    return None


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise _outcome(error) from error


def _outcome(error: DBAPIError) -> OoMlError:
    if sqlstates.sqlstate(error) == "55P03":
        return DatabaseTimeoutError(
            "A table was in use for longer than OO_ML_MIGRATION_LOCK_TIMEOUT; what was begun is undone: try again"
        )
    outcome = sqlstates.outcome(error)
    if outcome is None or isinstance(outcome, SchemaNotReadyError):
        # A missing right, or a schema that isn't what the migrations expect: PostgreSQL's own sentence says it best.
        return OoMlError(f"PostgreSQL refused: {sqlstates.description(error)}")
    return outcome


def _refuse_pooler(connection: Connection) -> None:
    # A pooler gives a client numbers of its own. It may give the session to another client between two transactions,
    # with the lock of this process in it, which would then keep later migrations waiting.
    driver: Any = connection.connection.driver_connection
    if driver.info.backend_pid != connection.scalar(text("SELECT pg_backend_pid()")):
        raise ConfigurationError(
            "OO_ML_DATABASE_URL leads to a connection pooler, and a migration needs a session of its own: "
            "use the address of PostgreSQL itself"
        )


def _wait_for_others(connection: Connection, seconds: float) -> None:
    # Asked for again and again: a statement that waits keeps a snapshot all the while, and a CREATE INDEX CONCURRENTLY
    # of the process that has the lock would wait for its end: a deadlock.
    deadline = time.monotonic() + seconds
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}):
        connection.rollback()
        if time.monotonic() > deadline:
            raise DatabaseTimeoutError(
                "Another process is migrating this database and did not get done within OO_ML_MIGRATION_WAIT"
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
    # alembic's own remarks go nowhere: the caller says what there is to say.
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
