"""How alembic reaches the database and what it compares. The work is in oo_ml/storage/schema/migrate.py.

`alembic` and `oo-ml db` both come through here, so they do the same.
"""

from alembic import context
from alembic.util import CommandError

from oo_ml.errors import OoMlError
from oo_ml.settings import Settings
from oo_ml.storage.postgres.engine import milliseconds
from oo_ml.storage.schema import migrate, schema_names
from oo_ml.storage.schema.column_types import SCHEMA
from oo_ml.storage.schema.tables import metadata


def _run_offline(settings: Settings) -> None:
    context.configure(
        dialect_name="postgresql",
        # named: the driver's own style of parameters would double every % in the script.
        dialect_opts={"paramstyle": "named"},
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        literal_binds=True,
        transaction_per_migration=True,
    )
    # As migrations.migration_connection and migrations.prepare do for a migration that runs here.
    context.execute(f"SET lock_timeout = '{milliseconds(settings.migration_lock_timeout)}ms'")
    context.execute("SET client_encoding = 'UTF8'")
    context.execute(migrate.CREATE_SCHEMA)
    with context.begin_transaction():
        context.run_migrations()


def _run_online(settings: Settings) -> None:
    # `oo-ml db` and the tests hand over a connection of theirs; `alembic` itself has none.
    given = context.config.attributes.get("connection")
    destination = _destination()
    with migrate.migration_connection(given or migrate.configured_url(settings), settings) as connection:
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
            # One migration, one transaction: what succeeded before a failure is kept and need not be run again.
            transaction_per_migration=True,
            # Only a command that migrates may create the version table.
            dont_mutate=destination is None,
        )
        with context.begin_transaction():
            context.run_migrations()
        if destination == migrate.head():
            migrate.make_months_ahead(connection)


def _destination() -> str | None:
    """Return the revision to migrate to, "" for none at all; None if the command does not migrate."""
    try:
        revision = context.get_revision_argument()
    except KeyError:
        return None
    return revision if isinstance(revision, str) else ""


# `oo-ml db` hands over its settings, too.
_settings = context.config.attributes.get("settings") or Settings()
context.config.attributes["translate"] = schema_names.translation(_settings)
if context.is_offline_mode():
    _run_offline(_settings)
else:
    try:
        _run_online(_settings)
    except OoMlError as error:
        # The class that `alembic` prints as one line.
        raise CommandError(error.message) from error
