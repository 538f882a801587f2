"""A pool of threads that run transactions, bounded in number, in queue and in time.

If the client is gone and its handler cancelled, the transaction goes on. At the deadline, cancelled or not, a
transaction that has not begun never does, and one that has ends: no server can keep a thread.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, Generic

from sqlalchemy import Engine

from oo_ml.errors import OverloadedError
from oo_ml.execution import retry
from oo_ml.execution.meter import UNMETERED, Meter, Usage
from oo_ml.execution.outcomes import receive, send
from oo_ml.execution.retry import Command, Outcome
from oo_ml.execution.transaction import limit_waits
from oo_ml.storage.postgres.engine import count_connections
from oo_ml.storage.postgres.sessions import Session


class Pool(Generic[Session]):
    """A pool of threads, each of which uses one connection of `engine` at a time, as a Reading or a Writing."""

    def __init__(  # noqa: PLR0913 - a pool, its limits, and who is told
        self, engine: Engine, *, name: str, threads: int, queue: int, timeout: float, meter: Meter = UNMETERED
    ) -> None:
        limit_waits(engine)
        self._engine = engine
        self._meter = meter
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._threads = threads
        self._capacity = threads + queue
        self._timeout = timeout
        # Accepted calls that have not ended, and their deadlines.
        self._calls: dict[Future[Any], float] = {}
        self._cut = threading.Event()

    async def run(
        self, service: Callable[[Session, Sequence[Command]], Sequence[Outcome]], commands: Sequence[Command]
    ) -> list[Outcome]:
        """Run `service` on `commands` in a transaction of its own; return its outcomes after COMMIT.

        Raises:
            OverloadedError: the queue is full.
            DatabaseTimeoutError: no answer in time. A transaction that was at its COMMIT may have gone through.
            UnavailableError: any other reason why the database can't do it now.
        """
        if len(self._calls) >= self._capacity and not self._make_room():
            raise OverloadedError
        answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        accepted = time.monotonic()
        deadline = accepted + self._timeout
        # Lines of the transaction's log have the id of the request.
        run = copy_context().run
        call = self._executor.submit(run, self._work, service, commands, accepted, deadline)
        self._calls[call] = deadline
        call.add_done_callback(partial(self._end, answer=answer))
        return await receive(answer, self._timeout)

    def _work(
        self,
        service: Callable[[Session, Sequence[Command]], Sequence[Outcome]],
        commands: Sequence[Command],
        accepted: float,
        deadline: float,
    ) -> list[Outcome]:
        self._meter.waited(time.monotonic() - accepted)
        self._meter.shared(len(commands))
        return retry.run(self._engine, service, commands, deadline, self._cut, meter=self._meter)

    def _end(self, call: Future[list[Outcome]], answer: asyncio.Future[list[Outcome]]) -> None:
        # First: a caller that has its answer finds room for its next call.
        del self._calls[call]
        if not call.cancelled():
            send([answer], [call.exception() or call.result()])

    def _make_room(self) -> bool:
        """Take a call out of the queue that may not begin any more; return whether there was one."""
        now = time.monotonic()
        # A call that has begun can't be cancelled: it keeps its place until its thread is free.
        return any(call.cancel() for call, deadline in list(self._calls.items()) if deadline <= now)

    def usage(self) -> Usage:
        """Return the use of the pool at this moment."""
        return Usage(max(0, len(self._calls) - self._threads), *count_connections(self._engine))

    def close(self, within: float = math.inf) -> None:
        """Finish accepted calls while their callers wait, at most `within` seconds; then end them and disconnect."""
        self._executor.shutdown(wait=False)
        futures.wait(list(self._calls), timeout=min(self._timeout, within))
        self._cut.set()
        self._executor.shutdown(wait=True)
        self._engine.dispose()
