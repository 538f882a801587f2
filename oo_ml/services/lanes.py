"""Lanes: each runs, as one transaction, whatever commands have queued up while its last one was under way.

With nothing else to do a command runs at once and alone; the busier it gets, the more commands share a transaction's
round trips and its write to disk. All commands of a user go through one lane in the order in which they came, so
lanes don't wait for each other's locks. Once accepted, a command is run whatever becomes of the handler that waits for
it; a lane whose queue is full refuses at once.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine

from oo_ml.errors import DatabaseTimeoutError, OoMlError, OverloadedError, UnavailableError, UnexpectedError
from oo_ml.services import deadlines
from oo_ml.services.deadlines import Transaction
from oo_ml.services.transactions import Command
from oo_ml.storage import engine as connections

Result = TypeVar("Result")
_Service = Callable[[Connection, Sequence[Any]], Sequence[Any]]

# A batch that waited in vain for a row has given each of its commands OO_ML_LOCK_TIMEOUT already.
_LAST_LOCK_WAIT: Final = 0.02


@dataclass(slots=True, eq=False)
class _Waiting:
    """A command that was accepted, and whoever waits for its outcome."""

    service: _Service
    user_id: str
    command: object
    deadline: float
    answer: asyncio.Future[Any]
    timer: asyncio.TimerHandle | None = None
    transaction: Transaction | None = None

    def give_up(self) -> None:
        """Tell the caller that it took too long; end the transaction if nobody in it has time left."""
        # A handler that was cancelled does not wait any more, but its command's time has run out all the same.
        if not self.answer.done():
            self.answer.set_exception(DatabaseTimeoutError())
        if self.transaction is not None and self.transaction.deadline <= self.deadline:
            self.transaction.cut()

    def tell(self, outcome: object) -> None:
        """Give the caller the outcome, unless it has been told that it took too long."""
        if self.timer is not None:
            self.timer.cancel()
        if self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class Lanes:
    """Lanes, each of which is a thread with one connection of `engine`."""

    def __init__(  # noqa: PLR0913 - each a setting
        self, engine: Engine, *, lanes: int, batch: int, queue: int, timeout: float, one_user: bool = False
    ) -> None:
        """Start them.

        Args:
            engine: with at least one connection for each.
            lanes: how many.
            batch: the most commands in a transaction.
            queue: the most commands that may wait in each lane.
            timeout: seconds until a command's caller is told that it failed.
            one_user: whether a transaction holds the commands of one user only.
        """
        deadlines.watch(engine)
        self._engine = engine
        self._timeout = timeout
        self._lanes = [_Lane(engine, number, batch, queue, one_user=one_user) for number in range(lanes)]

    async def run(
        self,
        service: Callable[[Connection, Sequence[Command]], Sequence[Result | OoMlError]],
        user_id: str,
        command: Command,
    ) -> Result:
        """Have `service` run on `command`, behind the user's earlier ones; return its outcome after COMMIT.

        Raises:
            OverloadedError: the queue is full.
            DatabaseTimeoutError: no answer in time. A transaction that was at its COMMIT may have gone through.
            OoMlError: the command was refused, or the database can't do it now.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        waiting = _Waiting(service, user_id, command, time.monotonic() + self._timeout, answer)
        self._lanes[hash(user_id) % len(self._lanes)].put(waiting)
        waiting.timer = loop.call_later(self._timeout, waiting.give_up)
        return await answer

    def close(self, within: float = math.inf) -> None:
        """Finish what was accepted, as long as its callers would wait and at most `within`; then let everything go."""
        until = time.monotonic() + min(self._timeout, within)
        for lane in self._lanes:
            lane.close()
        for lane in self._lanes:
            lane.join(until)
        self._engine.dispose()


@dataclass(slots=True)
class _Queue:
    """What waits for a lane, the oldest first."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    changed: threading.Condition = field(default_factory=threading.Condition)
    closed: bool = False


class _Lane:
    def __init__(self, engine: Engine, number: int, batch: int, queue: int, *, one_user: bool) -> None:
        self._engine = engine
        self._batch = batch
        self._room = queue
        self._one_user = one_user
        self._queue = _Queue()
        self._transaction: Transaction | None = None
        self._thread = threading.Thread(target=self._work, name=f"lane-{number}", daemon=True)
        self._thread.start()

    def put(self, waiting: _Waiting) -> None:
        """Accept a command.

        Raises:
            OverloadedError: too many are waiting.
            UnavailableError: the lane is closed.
        """
        with self._queue.changed:
            if self._queue.closed:
                raise UnavailableError
            if len(self._queue.waiting) >= self._room:
                raise OverloadedError
            self._queue.waiting.append(waiting)
            self._queue.changed.notify()

    def close(self) -> None:
        """Accept nothing more."""
        with self._queue.changed:
            self._queue.closed = True
            self._queue.changed.notify()

    def join(self, until: float) -> None:
        """Wait until all is done that was accepted; from `until` on, begin no more and end what is under way."""
        self._thread.join(max(0.0, until - time.monotonic()))
        with self._queue.changed:
            self._queue.waiting.clear()
        # Between two transactions there may be none for a moment, and one more afterwards.
        while self._thread.is_alive():
            if self._transaction is not None:
                self._transaction.cut()
            self._thread.join(0.1)

    def _work(self) -> None:
        while batch := self._take():
            self._run(batch)

    def _take(self) -> list[_Waiting]:
        """Wait for a command; return it with all that may share its transaction, none once the lane is closed.

        That is what the same service does, as long as no earlier command of the user stays behind.
        """
        with self._queue.changed:
            while not self._queue.waiting:
                if self._queue.closed:
                    return []
                self._queue.changed.wait()
            first = self._queue.waiting[0]
            batch: list[_Waiting] = []
            left: deque[_Waiting] = deque()
            behind: set[str] = set()
            for one in self._queue.waiting:
                if (
                    len(batch) < self._batch
                    and one.service is first.service
                    and one.user_id not in behind
                    and (not self._one_user or one.user_id == first.user_id)
                ):
                    batch.append(one)
                else:
                    behind.add(one.user_id)
                    left.append(one)
            self._queue.waiting = left
            return batch

    def _run(self, batch: Sequence[_Waiting]) -> None:
        if not (batch := _in_time(batch)):
            return
        try:
            outcomes = self._transact(batch[0].service, batch)
        except Exception as error:  # noqa: BLE001 - each is told to whoever waits
            if len(batch) == 1 or not _was_rolled_back(error):
                _tell(batch, [error] * len(batch))
            else:
                self._run_one_by_one(batch)
        else:
            _tell(batch, outcomes)

    def _run_one_by_one(self, batch: Sequence[_Waiting]) -> None:
        """Run a batch again that was rolled back, so that only whatever is to blame fails."""
        service = batch[0].service

        def hurried(connection: Connection, commands: Sequence[Any]) -> Sequence[Any]:
            connections.limit_lock_wait(connection, _LAST_LOCK_WAIT)
            return service(connection, commands)

        for one in batch:
            if alone := _in_time([one]):
                try:
                    outcomes: Sequence[Any] = self._transact(hurried, alone)
                except Exception as error:  # noqa: BLE001 - it is told to whoever waits
                    outcomes = [error]
                _tell(alone, outcomes)

    def _transact(self, service: _Service, batch: Sequence[_Waiting]) -> Sequence[Any]:
        transaction = Transaction(max(one.deadline for one in batch))
        self._transaction = transaction
        for one in batch:
            one.transaction = transaction
        try:
            return transaction.run(self._engine, service, [one.command for one in batch])
        finally:
            self._transaction = None


def _in_time(batch: Sequence[_Waiting]) -> list[_Waiting]:
    """Return those whose callers still wait: what they were told has failed is not begun."""
    now = time.monotonic()
    return [one for one in batch if now < one.deadline]


def _was_rolled_back(error: Exception) -> bool:
    """Tell whether it is certain that nothing was done, and possible that less would do better."""
    return isinstance(error, DatabaseTimeoutError | UnexpectedError) or not isinstance(error, OoMlError)


def _tell(batch: Sequence[_Waiting], outcomes: Sequence[object]) -> None:
    """Give each caller its outcome: all at once, since waking an event loop costs more than many answers."""
    told = zip(batch, outcomes, strict=True)
    for loop, answers in groupby(told, key=lambda pair: pair[0].answer.get_loop()):
        # An event loop that has been closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_answer, list(answers))


def _answer(answers: Sequence[tuple[_Waiting, object]]) -> None:
    for waiting, outcome in answers:
        waiting.tell(outcome)
