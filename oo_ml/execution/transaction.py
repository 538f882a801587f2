"""A transaction that can be ended from outside: nobody waits longer than the deadline, not even for a silent server.

What has not begun by then never does. What has is cut off its server, unless it is just about to end by itself.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection

from oo_ml.errors import DatabaseTimeoutError
from oo_ml.execution import retry
from oo_ml.execution.retry import Command, Outcome, Service

logger = logging.getLogger(__name__)

_CUT: Final = "cut"
_running = threading.local()


def watch(engine: Engine) -> None:
    """Let the transactions of `engine` be cut while they connect, too, and keep its other connections then."""
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "handle_error", _keep_the_pool)


class Transaction:
    """One run of a service, which can be cut off from another thread."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._lock = threading.Lock()
        self._is_cut = False
        self._socket: socket.socket | None = None
        self._info: dict[Any, Any] = {}

    def run(self, engine: Engine, service: Service[Command, Outcome], commands: Sequence[Command]) -> list[Outcome]:
        """Run it, unless the caller has been told meanwhile that it failed."""
        self._refuse_if_late()
        _running.transaction = self
        try:
            return retry.run(engine, service, commands, self.deadline, self._attached)
        finally:
            _running.transaction = None
            self._watch(None, {})

    def cut(self) -> None:
        """End it: a thread that waits for a silent server sees the end of its connection, and goes on."""
        with self._lock:
            self._is_cut = True
            if self._socket is None:
                return
            # For this connection alone, see _keep_the_pool.
            self._info[_CUT] = True
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        logger.warning("cut a connection that did not answer within the deadline")

    def connected(self, connection: psycopg.Connection[Any]) -> None:
        """Be told of a connection that is new: SQLAlchemy asks it some questions before it hands it out."""
        self._watch(connection, {})

    @contextmanager
    def _attached(self, connection: Connection) -> Iterator[None]:
        # From before BEGIN until after COMMIT, and no longer: then the connection may be somebody else's.
        driver: Any = connection.connection.driver_connection
        self._watch(driver, connection.info)
        try:
            yield
        finally:
            self._watch(None, {})
            if self._is_cut and not connection.invalidated:
                # Just after COMMIT: nobody else may be given what is left of it.
                connection.invalidate()

    def _watch(self, connection: psycopg.Connection[Any] | None, info: dict[Any, Any]) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            if connection is not None:
                self._refuse_if_late()
                # A copy, since the number itself may mean another file once the driver has closed its own.
                self._socket, self._info = socket.socket(fileno=os.dup(connection.fileno())), info

    def _refuse_if_late(self) -> None:
        if self._is_cut or time.monotonic() >= self.deadline:
            raise DatabaseTimeoutError


def _connect(dialect: Dialect, _record: object, args: Any, parameters: Any) -> DBAPIConnection:  # noqa: ANN401
    connection = dialect.connect(*args, **parameters)
    transaction: Transaction | None = getattr(_running, "transaction", None)
    if transaction is not None:
        try:
            transaction.connected(cast("psycopg.Connection[Any]", connection))
        except DatabaseTimeoutError:
            connection.close()
            raise
    return connection


def _keep_the_pool(context: ExceptionContext) -> None:
    # A lost connection usually means a restarted server, and every other connection of the pool is lost too. One that
    # was cut says nothing about the others; a slow server would not get faster by having to accept them all anew.
    if context.connection is not None and not context.connection.invalidated and context.connection.info.get(_CUT):
        context.invalidate_pool_on_disconnect = False
