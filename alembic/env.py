"""Alembic's environment: the connection to the database and the objects to compare.

Both `alembic` and `oo-ml db` run this file, so they do the same. The work is in oo_ml/storage/schema/migrate.py.
"""

from alembic import context
from alembic.util import CommandError

from oo_ml.errors import OoMlError
from oo_ml.settings import Settings
from oo_ml.storage.postgres.limits import milliseconds
from oo_ml.storage.schema import coming_months, migrate, revisions, schema_names
from oo_ml.storage.schema.all_tables import metadata
from oo_ml.storage.schema.column_types import SCHEMA
from oo_ml.storage.schema.migration_session import migration_connection


def _run_offline(settings: Settings) -> None:
    context.configure(
        dialect_name="postgresql",
        # The parameter style of the driver would double every % in the script; "named" does not.
        dialect_opts={"paramstyle": "named"},
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        literal_binds=True,
        transaction_per_migration=True,
    )
    # The same as migration_connection and migrate.prepare do online.
    context.execute(f"SET lock_timeout = '{milliseconds(settings.migration_lock_timeout)}ms'")
    context.execute("SET client_encoding = 'UTF8'")
    context.execute(migrate.CREATE_SCHEMA)
    with context.begin_transaction():
        context.run_migrations()


def _run_online(settings: Settings) -> None:
    # `oo-ml db` and the tests pass a connection; `alembic` itself has none.
    given = context.config.attributes.get("connection")
    destination = _destination()
    with migration_connection(given or migrate.configured_url(settings), settings) as connection:
        if destination is not None:
            migrate.prepare(connection, settings)
        context.configure(
            connection=connection,
            target_metadata=metadata,
            version_table_schema=SCHEMA,
            include_schemas=True,
            include_name=migrate.is_compared,
            compare_type=migrate.compare_type,
            compare_server_default=True,
            # One transaction for each migration: if one fails, the earlier ones stay and need not run again.
            transaction_per_migration=True,
            # Only a command that migrates may create the version table.
            dont_mutate=destination is None,
        )
        with context.begin_transaction():
            context.run_migrations()
        if destination == revisions.head():
            coming_months.make_months_ahead(connection)


def _destination() -> str | None:
    """Return the revision to migrate to ("" for base); None if the command does not migrate."""
    try:
        revision = context.get_revision_argument()
    except KeyError:
        return None
    return revision if isinstance(revision, str) else ""


# `oo-ml db` passes its settings.
_settings = context.config.attributes.get("settings") or Settings()
context.config.attributes["translate"] = schema_names.translation(_settings)
if context.is_offline_mode():
    _run_offline(_settings)
else:
    try:
        _run_online(_settings)
    except OoMlError as error:
        # `alembic` prints this class as one line.
        raise CommandError(error.message) from error
