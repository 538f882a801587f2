"""The database of a command."""

from collections.abc import Iterator
from contextlib import contextmanager

from oo_ml.cli.logs import configure_logs
from oo_ml.services.database_address import database
from oo_ml.settings import LogLevel, Settings


@contextmanager
def open_database(default: LogLevel = LogLevel.ERROR, *, migrate: bool = True) -> Iterator[tuple[str, Settings]]:
    """Yield the address of the database that the settings name, or of the private one, and the settings.

    Args:
        default: least severe level that is logged if OO_ML_LOG_LEVEL is not set.
        migrate: whether the private database is migrated first.
    """
    settings = Settings()
    configure_logs(settings, default)
    with database(settings, migrate=migrate) as url:
        yield url, settings
