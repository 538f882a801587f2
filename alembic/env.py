"""How alembic reaches the database and what it compares; the work is in oo_ml/storage/migrations.py."""

from alembic import context
from alembic.util import CommandError

from oo_ml.errors import OoMlError
from oo_ml.settings import Settings
from oo_ml.storage import migrations
from oo_ml.storage.engine import milliseconds
from oo_ml.storage.tables import metadata


def _run_offline() -> None:
    # named: the driver's own style of parameters would double every % in the script.
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        target_metadata=metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    # As migration_connection does for those who run it here.
    context.execute(f"SET lock_timeout = '{milliseconds(Settings().migration_lock_timeout)}ms'")
    with context.begin_transaction():
        context.run_migrations()


def _run_online() -> None:
    settings = Settings()
    # `oo-ml db` and the tests hand over a connection of theirs; `alembic` itself has none.
    given = context.config.attributes.get("connection")
    with migrations.migration_connection(given or migrations.configured_url(settings), settings) as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            include_name=migrations.is_compared,
            compare_type=migrations.compare_type,
            compare_server_default=True,
            # One migration, one transaction: what went well before a failure is kept and need not be run again.
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    _run_offline()
else:
    try:
        _run_online()
    except OoMlError as error:
        # The class that `alembic` prints as one line.
        raise CommandError(error.message) from error
