"""The database of a command."""

from collections.abc import Iterator
from contextlib import contextmanager

from oo_ml.cli.logs import configure_logs
from oo_ml.services.database_address import database
from oo_ml.settings import Settings


@contextmanager
def open_database() -> Iterator[tuple[str, Settings]]:
    """Yield the address of the database that the settings name, or of the private one, and the settings."""
    settings = Settings()
    configure_logs(settings)
    with database(settings) as url:
        yield url, settings
