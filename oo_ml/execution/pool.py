"""The threads that run transactions: bounded in number, in queue and in time, and out of a client's reach.

If the handler is cancelled, since its client is gone, its transaction goes on. At the deadline, cancelled or not, a
transaction that has not begun never does, and the connection of one that has is cut, so no server can keep a thread.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from sqlalchemy import Engine

from oo_ml.errors import DatabaseTimeoutError, OverloadedError
from oo_ml.execution.retry import Command, Outcome, Service
from oo_ml.execution.transaction import Transaction, watch


class Workers:
    """A pool of threads, each of which uses one connection of `engine` at a time."""

    def __init__(self, engine: Engine, *, name: str, threads: int, queue: int, timeout: float) -> None:
        self._engine = engine
        watch(engine)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._capacity = threads + queue
        self._timeout = timeout
        self._under_way: dict[Future[Any], Transaction] = {}

    async def run(self, service: Service[Command, Outcome], commands: Sequence[Command]) -> list[Outcome]:
        """Run `service` on `commands` in a transaction of its own; return its outcomes after COMMIT.

        Raises:
            OverloadedError: the queue is full.
            DatabaseTimeoutError: no answer in time. A transaction that was at its COMMIT may have gone through.
            UnavailableError: any other reason why the database can't do it now.
        """
        if len(self._under_way) >= self._capacity:
            raise OverloadedError
        transaction = Transaction(time.monotonic() + self._timeout)
        future = self._executor.submit(transaction.run, self._engine, service, commands)
        self._under_way[future] = transaction
        future.add_done_callback(lambda done: self._under_way.pop(done, None))
        # asyncio.wait, unlike await itself, leaves what it waits for alone when the handler is cancelled.
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(_seen)
        try:
            done, _ = await asyncio.wait([waiting], timeout=self._timeout)
        except asyncio.CancelledError:
            left = max(0.0, transaction.deadline - time.monotonic())
            asyncio.get_running_loop().call_later(left, _end, waiting, transaction)
            raise
        if not done:
            _end(waiting, transaction)
            raise DatabaseTimeoutError
        return waiting.result()

    def close(self, within: float = math.inf) -> None:
        """Finish what was accepted, as long as its callers would wait and at most `within`; then let everything go."""
        self._executor.shutdown(wait=False)
        _, unfinished = futures.wait(list(self._under_way), timeout=min(self._timeout, within))
        for future in unfinished:
            if transaction := self._under_way.get(future):
                transaction.cut()
        self._executor.shutdown(wait=True)
        self._engine.dispose()


def _end(waiting: asyncio.Future[Any], transaction: Transaction) -> None:
    """Take a transaction out of the queue if it has not begun, or cut it; one that has ended stays as it is."""
    waiting.cancel()
    transaction.cut()


def _seen(waiting: asyncio.Future[Any]) -> None:
    # Else asyncio complains about a failure that nobody was left to hear of.
    if not waiting.cancelled():
        waiting.exception()
