"""Migrations: run by one process at a time, safe while a service is running, from a checkout or an installed wheel."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION
from sqlalchemy.types import TypeEngine

from oo_ml.errors import ConfigurationError, MigrationRefusedError
from oo_ml.settings import Settings
from oo_ml.storage.schema import database_checks, revisions
from oo_ml.storage.schema.column_types import SCHEMA, Float8Array
from oo_ml.storage.schema.migration_session import migration_connection

# CREATE SCHEMA IF NOT EXISTS needs the right to create schemas even if the schema exists.
CREATE_SCHEMA: Final = """
    DO $$ BEGIN IF to_regnamespace('oo_ml') IS NULL THEN CREATE SCHEMA oo_ml; END IF; END $$
"""


def configured_url(settings: Settings) -> str:
    """Return the URL of the database in the settings.

    Raises:
        ConfigurationError: OO_ML_DATABASE_URL is not set.
    """
    if settings.database_url is None:
        raise ConfigurationError("Set OO_ML_DATABASE_URL, or use `oo-ml db` for the private PostgreSQL")
    return settings.database_url.get_secret_value()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise MigrationRefusedError(str(error)) from None


@_refusals()
def upgrade(url: str, settings: Settings, revision: str = "head") -> None:
    """Migrate up to `revision`. At head, also create the partitions of the coming months.

    Raises:
        MigrationRefusedError: the revision is unknown.
        UnavailableError: the database can't be migrated now.
    """
    with migration_connection(url, settings) as connection:
        command.upgrade(_config(connection, settings), revision)


@_refusals()
def downgrade(url: str, settings: Settings, revision: str) -> None:
    """Migrate down to `revision`; `base` drops everything. The errors are those of `upgrade`."""
    with migration_connection(url, settings) as connection:
        command.downgrade(_config(connection, settings), revision)


@_refusals()
def check(url: str, settings: Settings) -> None:
    """Compare the database with the declarations of this release.

    Raises:
        MigrationRefusedError: they differ, or the database is not at head.
    """
    with migration_connection(url, settings) as connection:
        command.check(_config(connection, settings))


def history() -> str:
    """Return one line for each migration, the latest first."""
    output = io.StringIO()
    command.history(_config(stdout=output))
    return output.getvalue()


@_refusals()
def sql(revision: str = "head") -> str:
    """Return the migrations as one SQL script, for a database that only its administrators may change.

    Raises:
        MigrationRefusedError: the revision is unknown.
    """
    output = io.StringIO()
    command.upgrade(_config(output=output), revision, sql=True)
    return output.getvalue()


def prepare(connection: Connection, settings: Settings) -> None:
    """Check that the database can be migrated, before anything changes; then create schema oo_ml if it is missing.

    Raises:
        UnsuitableDatabaseError: the database can't be migrated; the message says why and what to do.
    """
    if revisions.read_ours(connection) is None:
        database_checks.check_room(connection, settings)
        connection.execute(text(CREATE_SCHEMA))
    connection.commit()


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


def _config(
    connection: Connection | None = None,
    settings: Settings | None = None,
    *,
    output: io.StringIO | None = None,
    stdout: io.StringIO | None = None,
) -> Config:
    # The output of alembic itself is discarded; the caller reports the result.
    config = Config(output_buffer=output, stdout=stdout or io.StringIO())
    scripts = str(revisions.scripts()).replace("%", "%%")
    config.set_main_option("script_location", scripts)
    # For migration_helpers.py, as in alembic.ini.
    config.set_main_option("prepend_sys_path", scripts)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["settings"] = settings
    return config
