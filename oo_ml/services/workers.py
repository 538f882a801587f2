"""The threads that run transactions: bounded in number, in queue and in time, and out of a client's reach.

A client that disconnects cancels its handler, never the transaction. A server that has gone silent can't keep a
thread: at the deadline its connection is cut.
"""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine

from oo_ml.errors import DatabaseTimeoutError, OverloadedError
from oo_ml.services import transactions
from oo_ml.services.transactions import Command, Outcome, Service
from oo_ml.settings import Settings

logger = logging.getLogger(__name__)


class Workers:
    """A pool of threads, each of which uses one connection of `engine` at a time."""

    def __init__(self, engine: Engine, *, name: str, threads: int, settings: Settings) -> None:
        self._engine = engine
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._capacity = threads + settings.database_queue
        self._timeout = settings.request_timeout
        self._under_way: set[Future[Any]] = set()

    async def run(self, service: Service[Command, Outcome], commands: Sequence[Command]) -> list[Outcome]:
        """Run `service` on `commands` in a transaction of its own; return its outcomes after COMMIT.

        Raises:
            OverloadedError: the queue is full.
            DatabaseTimeoutError: no answer in time. The transaction may have been committed all the same.
            UnavailableError: any other reason why the database can't do it now.
        """
        if len(self._under_way) >= self._capacity:
            raise OverloadedError
        transaction = _Transaction(time.monotonic() + self._timeout)
        future = self._executor.submit(transaction.run, self._engine, service, commands)
        # Held here, so that neither a cancelled handler nor the garbage collector takes it away.
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        # asyncio.wait, unlike await itself, leaves what it waits for alone when the handler is cancelled.
        waiting = asyncio.wrap_future(future)
        done, _ = await asyncio.wait([waiting], timeout=self._timeout)
        if not done:
            # What is still in the queue is taken out of it; what has begun is cut off.
            waiting.cancel()
            transaction.cut()
            raise DatabaseTimeoutError
        return waiting.result()

    def close(self) -> None:
        """Finish what was accepted, then let the threads and connections go."""
        self._executor.shutdown(wait=True)
        self._engine.dispose()


class _Transaction:
    """One run of a service, which can be cut off from another thread."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._lock = threading.Lock()
        self._socket: int | None = None

    def run(self, engine: Engine, service: Service[Command, Outcome], commands: Sequence[Command]) -> list[Outcome]:
        # Whoever sent this has been told that it failed: doing it now would do it behind their back.
        if time.monotonic() >= self._deadline:
            raise DatabaseTimeoutError
        try:
            return transactions.run(engine, service, commands, self._deadline, self._attach)
        finally:
            with self._lock:
                self._socket = None

    def _attach(self, connection: Connection) -> None:
        with self._lock:
            self._socket = connection.connection.driver_connection.fileno()  # type: ignore[union-attr]

    def cut(self) -> None:
        """Make a thread that waits for a silent server see the end of its connection, and go on."""
        with self._lock:
            if self._socket is None:
                return
            # A copy of the descriptor: closing it leaves the driver's own one to the driver.
            with socket.socket(fileno=os.dup(self._socket)) as connection, suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            logger.warning("cut a connection that did not answer within the deadline")
