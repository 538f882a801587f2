"""The database of a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oo_ml.settings import Settings


@contextmanager
def open_database(logs_from: str = "error", *, migrate: bool = True) -> "Iterator[tuple[str, Settings]]":
    """Yield the address of the database that the settings name, or of the private one, and the settings.

    Args:
        logs_from: least severe level that is logged if OO_ML_LOG_LEVEL is not set.
        migrate: whether the private database is migrated first.
    """
    from oo_ml.cli.logs import configure_logs
    from oo_ml.services.database_address import database
    from oo_ml.setting_choices import LogLevel
    from oo_ml.settings import Settings

    settings = Settings()
    configure_logs(settings, LogLevel(logs_from))
    with database(settings, migrate=migrate) as url:
        yield url, settings
