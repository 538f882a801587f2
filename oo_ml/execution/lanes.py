"""Lanes: each runs, as one transaction, whatever commands have queued up while its last one was under way.

With nothing else to do a command runs at once and alone; the busier it gets, the more commands share a transaction's
round trips and its write to disk. All commands of a user go through one lane in the order in which they came, so
lanes don't wait for each other's locks. Once accepted, a command is run whatever becomes of the handler that waits for
it; a lane whose queue is full refuses at once.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine

from oo_ml.errors import DatabaseTimeoutError, OoMlError, RowLockedError, UnexpectedError
from oo_ml.execution.lane_queue import AnyService, Attempt, Queue, Waiting
from oo_ml.execution.retry import Command
from oo_ml.execution.transaction import Transaction, watch
from oo_ml.storage.postgres.engine import limit_lock_wait

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# uvloop counts in milliseconds and rounds down.
_TICK: Final = 0.002


@dataclass(frozen=True, slots=True)
class Limits:
    """How much lanes take on, and for how long; see the settings of the same names.

    Attributes:
        batch: the most commands in a transaction.
        queue: the most commands that may wait in each lane.
        timeout: seconds until a command's caller is told that it failed.
        lock_timeout: seconds that a command waits for its user's row.
        lane_lock_timeout: seconds that a whole batch waits for rows; the engine's connections hold to it.
        one_user: whether a transaction holds the commands of one user only.
    """

    batch: int
    queue: int
    timeout: float
    lock_timeout: float
    lane_lock_timeout: float
    one_user: bool = False


class Lanes:
    """Lanes, each of which is a thread with one connection of `engine`."""

    def __init__(self, engine: Engine, lanes: int, limits: Limits) -> None:
        """Start `lanes` threads."""
        watch(engine)
        self._engine = engine
        self._timeout = limits.timeout
        self._lanes = [_Lane(engine, limits, name=f"lane-{number}") for number in range(lanes)]

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
        now = time.monotonic()
        waiting = Waiting(service, user_id, command, now, now + self._timeout, answer)
        self._lanes[hash(user_id) % len(self._lanes)].queue.put(waiting)
        waiting.timer = loop.call_later(self._timeout + _TICK, waiting.give_up)
        return await answer

    def close(self, within: float = math.inf) -> None:
        """Finish what was accepted, as long as its callers would wait and at most `within`; then let everything go."""
        until = time.monotonic() + min(self._timeout, within)
        for lane in self._lanes:
            lane.queue.close()
        for lane in self._lanes:
            lane.join(until)
        self._engine.dispose()


class _Lane:
    def __init__(self, engine: Engine, limits: Limits, *, name: str) -> None:
        self._engine = engine
        self._limits = limits
        self._moment = limits.lane_lock_timeout / 10
        self.queue = Queue(room=limits.queue, batch=limits.batch, one_user=limits.one_user)
        self._transaction: Transaction | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def join(self, until: float) -> None:
        """Wait until all is done that was accepted; from `until` on, begin no more and end what is under way."""
        self._thread.join(max(0.0, until - time.monotonic()))
        while self._thread.is_alive():
            self.queue.clear()
            # Between two transactions there may be none for a moment, and one more afterwards.
            if (transaction := self._transaction) is not None:
                transaction.cut()
            self._thread.join(0.1)

    def _work(self) -> None:
        while batch := self.queue.take():
            if batch := _in_time(batch):
                self._run(batch)

    def _run(self, batch: Sequence[Waiting]) -> None:
        try:
            outcomes = self._transact(batch, self._look(batch[0].user_id))
        except RowLockedError:
            if len({one.user_id for one in batch}) > 1:
                self._run_one_by_one(batch)
            else:
                self._wait_on(batch)
        except Exception as error:  # noqa: BLE001 - each is told to whoever waits
            if len(batch) > 1 and _was_rolled_back(error):
                self._run_one_by_one(batch)
            else:
                _tell(batch, [error] * len(batch))
        else:
            self.queue.unblock(one.user_id for one in batch)
            _tell(batch, outcomes)

    def _look(self, user_id: str) -> float | None:
        """Return how long to wait for a user's row if it was found locked the last time."""
        if not self.queue.is_blocked(user_id):
            return None
        # Where nobody else waits there is time to get to the head of PostgreSQL's own line.
        return self._limits.lane_lock_timeout if self.queue.is_empty() else self._moment

    def _run_one_by_one(self, batch: Sequence[Waiting]) -> None:
        """Run a batch again that was rolled back, so that only whatever is to blame fails, or waits on."""
        locked: dict[str, list[Waiting]] = {}
        for one in batch:
            if one.user_id in locked:
                # It stays behind the user's earlier ones.
                locked[one.user_id].append(one)
                continue
            if not _in_time([one]):
                continue
            try:
                [outcome] = self._transact([one], self._moment)
            except RowLockedError:
                locked[one.user_id] = [one]
                continue
            except Exception as error:  # noqa: BLE001 - it is told to whoever waits
                outcome = error
            else:
                self.queue.unblock([one.user_id])
            _tell([one], [outcome])
        for waiting in locked.values():
            self._wait_on(waiting)

    def _wait_on(self, batch: Sequence[Waiting]) -> None:
        """Try one user's commands again in a while, or tell the callers of those that have waited long enough."""
        now = time.monotonic()
        over = [one for one in batch if now >= one.accepted + self._limits.lock_timeout]
        if over:
            logger.warning("%s: a row stayed locked, %d calls failed", RowLockedError.code, len(over))
        _tell(over, [RowLockedError()] * len(over))
        self.queue.put_back(batch[len(over) :], batch[0].user_id, now + self._limits.lane_lock_timeout / 2)

    def _transact(self, batch: Sequence[Waiting], lock_wait: float | None = None) -> Sequence[Any]:
        service = _guarded(batch[0].service, lock_wait)
        attempt = Attempt(Transaction(max(one.deadline for one in batch)), batch)
        self._transaction = attempt.transaction
        for one in batch:
            one.attempt = attempt
        try:
            if attempt.is_late:
                # They gave up too early to see that there is something to be cut.
                raise DatabaseTimeoutError
            return attempt.transaction.run(self._engine, service, [one.command for one in batch])
        finally:
            self._transaction = None
            for one in batch:
                one.attempt = None


def _guarded(service: AnyService, lock_wait: float | None) -> AnyService:
    """Return a service that waits for rows no longer than `lock_wait`, and is rolled back if it forgets a command."""

    def guarded(connection: Connection, commands: Sequence[Any]) -> Sequence[Any]:
        if lock_wait is not None:
            limit_lock_wait(connection, lock_wait)
        outcomes = service(connection, commands)
        if len(outcomes) != len(commands):
            raise ValueError("a service has to give each command an outcome")
        return outcomes

    return guarded


def _in_time(batch: Sequence[Waiting]) -> list[Waiting]:
    """Return those whose callers still wait: what they were told has failed is not begun."""
    now = time.monotonic()
    return [one for one in batch if now < one.deadline and not one.is_late]


def _was_rolled_back(error: Exception) -> bool:
    """Tell whether it is certain that nothing was done, and possible that less would do better."""
    return isinstance(error, DatabaseTimeoutError | UnexpectedError) or not isinstance(error, OoMlError)


def _tell(batch: Sequence[Waiting], outcomes: Sequence[object]) -> None:
    """Give each caller its outcome: all at once, since waking an event loop costs more than many answers."""
    told = zip(batch, outcomes, strict=True)
    for loop, answers in groupby(told, key=lambda pair: pair[0].answer.get_loop()):
        # An event loop that has been closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_answer, list(answers))


def _answer(answers: Sequence[tuple[Waiting, object]]) -> None:
    for waiting, outcome in answers:
        waiting.tell(outcome)
