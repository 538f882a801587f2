"""Work that is left when a database is at head: the partitions of the coming months."""

import logging
from datetime import UTC, datetime

from oo_ml.settings import Settings
from oo_ml.storage.postgres.sessions import Writing
from oo_ml.storage.schema import partitions, revisions
from oo_ml.storage.schema.migration_session import migration_connection

logger = logging.getLogger(__name__)


def make_ready(url: str, settings: Settings) -> bool:
    """Return False if the database is not at head; else create the partitions of the coming months and return True.

    Raises:
        UnsuitableDatabaseError: the tables are not oO ML's, or the encoding is not UTF8.
    """
    with migration_connection(url, settings) as connection:
        is_at_head = revisions.read_ours(connection) == revisions.head()
        if is_at_head:
            make_months_ahead(connection)
        return is_at_head


def make_months_ahead(connection: Writing) -> None:
    """Create the missing partitions of the coming months."""
    months = partitions.make_ahead(connection, datetime.now(UTC))
    connection.commit()
    if months:
        logger.info("made partitions %s", ", ".join(months))
