"""Pooled connections that were idle: a server, a firewall or a failover may have ended them unnoticed."""

import time
from typing import Final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

# In the info of a pooled connection: the time.monotonic() from which its next use is a check.
_CHECK_FROM: Final = "oo_ml_check_from"


def watch(engine: Engine, check_after: float) -> None:
    """Note when each connection of `engine` becomes idle; it is suspect `check_after` seconds later."""

    @event.listens_for(engine, "checkin")
    def _note(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info[_CHECK_FROM] = time.monotonic() + check_after


def check_from(connection: Connection) -> float | None:
    """Return the time.monotonic() from which the connection is suspect; None if it was made for this use."""
    found: float | None = connection.info.get(_CHECK_FROM)
    return found
