"""Lanes: while a lane runs a transaction, commands queue up, and the next transaction runs all of them. ADR 9.

With an empty queue a command runs at once and alone. On a busy lane many commands share one transaction, and so its
round trips and its write to disk. All commands of a user go through one lane, in the order of their arrival, so lanes
don't wait for each other's locks. An accepted command runs even if its HTTP request is cancelled. If the queue is full,
the command is refused at once.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Engine

from oo_ml import tracing
from oo_ml.errors import DatabaseTimeoutError, OoMlError, RowLockedError, UnexpectedError
from oo_ml.execution import retry
from oo_ml.execution.lane_queue import AnyService, Queue, QueuedCommand
from oo_ml.execution.meter import UNMETERED, Meter, Usage
from oo_ml.execution.outcomes import receive, send
from oo_ml.execution.retry import Command
from oo_ml.execution.transaction import limit_waits
from oo_ml.storage.postgres.engine import count_connections, limit_lock_wait
from oo_ml.storage.postgres.sessions import Writing

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of lanes, in seconds and commands; see the settings of the same names.

    Attributes:
        timeout: the time until a command's caller is told that it failed.
        lane_lock_timeout: the time that a whole batch waits for rows; the engine's connections hold to it.
    """

    batch: int
    queue: int
    timeout: float
    lock_timeout: float
    lane_lock_timeout: float
    one_user: bool = False


class Lanes:
    """Lanes, each of which is a thread with one connection of `engine`."""

    def __init__(self, engine: Engine, lanes: int, limits: Limits, meter: Meter = UNMETERED) -> None:
        """Start `lanes` threads."""
        limit_waits(engine)
        self._engine = engine
        self._timeout = limits.timeout
        self._cut = threading.Event()
        self._lanes = [_Lane(engine, limits, self._cut, meter, name=f"lane-{number}") for number in range(lanes)]

    async def run(
        self,
        service: Callable[[Writing, Sequence[Command]], Sequence[Result | OoMlError]],
        user_id: str,
        command: Command,
    ) -> Result:
        """Run `service` on `command`, after the user's earlier ones; return its outcome after COMMIT.

        Raises:
            OverloadedError: the queue is full.
            DatabaseTimeoutError: no answer in time. A transaction that was at its COMMIT may have gone through.
            OoMlError: the command was refused, or the database can't do it now.
        """
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        now = time.monotonic()
        lane = self._lanes[hash(user_id) % len(self._lanes)]
        lane.queue.put(QueuedCommand(service, user_id, command, now, now + self._timeout, answer))
        return await receive(answer, self._timeout)

    def usage(self) -> Usage:
        """Return the use of all lanes together at this moment."""
        return Usage(sum(len(lane.queue) for lane in self._lanes), *count_connections(self._engine))

    def close(self, within: float = math.inf) -> None:
        """Finish accepted commands while their callers wait, at most `within` seconds; then end them and disconnect."""
        until = time.monotonic() + min(self._timeout, within)
        for lane in self._lanes:
            lane.queue.close()
        for lane in self._lanes:
            lane.thread.join(max(0.0, until - time.monotonic()))
        self._cut.set()
        for lane in self._lanes:
            lane.thread.join()
        self._engine.dispose()


class _Lane:
    def __init__(self, engine: Engine, limits: Limits, cut: threading.Event, meter: Meter, *, name: str) -> None:
        self._engine = engine
        self._meter = meter
        self._limits = limits
        self._short_wait = limits.lane_lock_timeout / 10
        self._cut = cut
        self.queue = Queue(capacity=limits.queue, batch=limits.batch, one_user=limits.one_user)
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while batch := self.queue.take():
            if locked := self._run(batch, self._lock_wait(batch[0].user_id)):
                self._set_aside(locked)

    def _lock_wait(self, user_id: str) -> float | None:
        """Return how long to wait for a user's row if it was found locked the last time."""
        if not self.queue.is_held(user_id):
            return None
        # If no other user waits there is time to get to the head of PostgreSQL's own queue for the row.
        return self._limits.lane_lock_timeout if self.queue.is_empty() else self._short_wait

    def _run(self, batch: Sequence[QueuedCommand], lock_wait: float | None) -> Sequence[QueuedCommand]:
        """Run a batch as one transaction and answer its callers; return the commands whose rows are locked instead."""
        service = batch[0].service if lock_wait is None else _hurried(batch[0].service, lock_wait)
        deadline = max(one.deadline for one in batch)
        began = time.monotonic()
        outcomes: Sequence[object]
        try:
            outcomes = self._transact(batch, service, deadline)
        except RowLockedError:
            return batch if len({one.user_id for one in batch}) == 1 else self._run_one_by_one(batch)
        except Exception as error:  # noqa: BLE001 - its callers are told
            if len(batch) > 1 and _was_rolled_back(error):
                return self._run_one_by_one(batch)
            outcomes = [error] * len(batch)
        else:
            self.queue.release(one.user_id for one in batch)
        self._meter.shared(len(batch))
        for one in batch:
            self._meter.waited(began - one.accepted)
        send([one.answer for one in batch], outcomes)
        return []

    def _transact(self, batch: Sequence[QueuedCommand], service: AnyService, deadline: float) -> Sequence[object]:
        """Run a batch as one transaction; return its outcomes. A batch of one logs as a part of its request."""
        commands = [one.command for one in batch]
        run = partial(retry.run, self._engine, service, commands, deadline, self._cut, meter=self._meter)
        with tracing.transaction(one.context for one in batch):
            return batch[0].context.run(run) if len(batch) == 1 else run()

    def _run_one_by_one(self, batch: Sequence[QueuedCommand]) -> Sequence[QueuedCommand]:
        """Run the commands of a batch that was rolled back, so that only those to blame fail or wait."""
        locked: list[QueuedCommand] = []
        for one in batch:
            # A command stays behind the earlier ones of its user.
            is_behind = any(one.user_id == earlier.user_id for earlier in locked)
            locked += [one] if is_behind else self._run([one], self._short_wait)
        return locked

    def _set_aside(self, locked: Sequence[QueuedCommand]) -> None:
        """Hold the commands of users with locked rows; fail those that have waited for OO_ML_LOCK_TIMEOUT."""
        now = time.monotonic()
        over = [one for one in locked if now >= one.accepted + self._limits.lock_timeout]
        if over:
            logger.warning("%s: a row stayed locked, %d calls failed", RowLockedError.code, len(over))
            send([one.answer for one in over], [RowLockedError()] * len(over))
        self.queue.hold({one.user_id for one in locked}, now + self._limits.lane_lock_timeout / 2)
        self.queue.put_back([one for one in locked if now < one.accepted + self._limits.lock_timeout])


def _hurried(service: AnyService, lock_wait: float) -> AnyService:
    """Return a service that waits for each lock no longer than `lock_wait` seconds."""

    def hurried(connection: Writing, commands: Sequence[Any]) -> Sequence[Any]:
        limit_lock_wait(connection, lock_wait)
        return service(connection, commands)

    return hurried


def _was_rolled_back(error: Exception) -> bool:
    """Return whether it is certain that nothing was done, and possible that fewer commands would succeed."""
    return isinstance(error, DatabaseTimeoutError | UnexpectedError) or not isinstance(error, OoMlError)
