"""What waits for a lane: commands in the order in which they came, and users whose rows somebody else has locked."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from oo_ml.errors import DatabaseTimeoutError, OverloadedError, UnavailableError
from oo_ml.execution.transaction import Transaction

# Who has not come back after so many seconds is a stranger again.
_FORGET: Final = 60.0

AnyService = Callable[[Connection, Sequence[Any]], Sequence[Any]]


@dataclass(slots=True, eq=False)
class Waiting:
    """A command that was accepted, and whoever waits for its outcome.

    Attributes:
        service: what to run on it.
        accepted: time.monotonic() when it came.
        deadline: when the caller is told that it failed.
        answer: where the caller waits.
        timer: calls `give_up` at the deadline, or a moment before: clocks of event loops are coarse.
        attempt: the transaction that it is in, and all that are in it.
        is_late: whether the caller has been told so, and it must not be begun any more.
    """

    service: AnyService
    user_id: str
    command: object
    accepted: float
    deadline: float
    answer: asyncio.Future[Any]
    timer: asyncio.TimerHandle | None = None
    attempt: "Attempt | None" = None
    is_late: bool = False

    def give_up(self) -> None:
        """Tell the caller that it took too long; end the transaction if nobody in it has time left."""
        # Before `attempt` is looked at: a lane that has not set it by now will see this.
        self.is_late = True
        # A handler that was cancelled does not wait any more, but its command's time has run out all the same.
        if not self.answer.done():
            self.answer.set_exception(DatabaseTimeoutError())
        attempt = self.attempt
        if attempt is not None and attempt.is_late:
            attempt.transaction.cut()

    def tell(self, outcome: object) -> None:
        """Give the caller the outcome, unless it has been told that it took too long."""
        if self.timer is not None:
            self.timer.cancel()
        if self.answer.done():
            return
        if isinstance(outcome, StopIteration):
            # No future takes one.
            self.answer.set_exception(RuntimeError("a service raised StopIteration"))
        elif isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A transaction for a batch."""

    transaction: Transaction
    batch: Sequence[Waiting]

    @property
    def is_late(self) -> bool:
        """Whether nobody waits for it any more."""
        return all(one.is_late for one in self.batch)


class Queue:
    """A bounded queue that one thread takes batches from; anybody may put."""

    def __init__(self, *, room: int, batch: int, one_user: bool) -> None:
        """Begin empty.

        Args:
            room: the most commands that may wait.
            batch: the most commands in a batch.
            one_user: whether a batch holds the commands of one user only.
        """
        self._room = room
        self._batch = batch
        self._one_user = one_user
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        # When to look again at a row that was found locked. Touched by the taking thread alone.
        self._blocked: dict[str, float] = {}
        # Whether the last batch was a look at such a row: others go first then, however many rows are locked.
        self._has_looked = False

    def put(self, waiting: Waiting) -> None:
        """Accept a command.

        Raises:
            OverloadedError: too many are waiting.
            UnavailableError: the queue is closed.
        """
        with self._changed:
            if self._is_closed:
                raise UnavailableError
            if len(self._waiting) >= self._room:
                raise OverloadedError
            self._waiting.append(waiting)
            self._changed.notify()

    def take(self) -> list[Waiting]:
        """Wait for commands that may share a transaction, and return them; none once all is done and no more comes."""
        with self._changed:
            while True:
                if batch := self._next_batch():
                    return batch
                if self._is_closed and not self._waiting:
                    return []
                # What waits now waits for locked rows.
                again = min((self._blocked.get(one.user_id, 0.0) for one in self._waiting), default=None)
                self._changed.wait(None if again is None else max(0.0, again - time.monotonic()))

    def put_back(self, batch: Sequence[Waiting], user_id: str, until: float) -> None:
        """Let a user's commands, and those that come, wait until then: the row is locked. They keep their places."""
        self._blocked = {user: again for user, again in self._blocked.items() if again > until - _FORGET}
        self._blocked[user_id] = until
        with self._changed:
            self._waiting.extendleft(reversed(batch))

    def is_empty(self) -> bool:
        """Tell whether nothing waits."""
        return not self._waiting

    def is_blocked(self, user_id: str) -> bool:
        """Tell whether a user's row was found locked the last time."""
        return user_id in self._blocked

    def unblock(self, user_ids: Iterable[str]) -> None:
        """Note that users' rows are not locked by others."""
        for user_id in user_ids:
            self._blocked.pop(user_id, None)

    def close(self) -> None:
        """Accept nothing more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def clear(self) -> None:
        """Forget what waits."""
        with self._changed:
            self._waiting.clear()
            self._changed.notify()

    def _next_batch(self) -> list[Waiting]:
        """Take the first command that may run, and all that may share its transaction.

        That is what the same service does, as long as no earlier command of the user stays behind. A user whose row
        was found locked shares with nobody, so that only they wait for it.
        """
        now = time.monotonic()
        batch: list[Waiting] = []
        left: deque[Waiting] = deque()
        behind: set[str] = set()
        alone = self._one_user
        others_first = self._has_looked and any(one.user_id not in self._blocked for one in self._waiting)
        for one in self._waiting:
            blocked_until = self._blocked.get(one.user_id)
            if one.user_id in behind or len(batch) == self._batch:
                joins = False
            elif not batch:
                joins = blocked_until is None or (blocked_until <= now and not others_first)
                alone = alone or blocked_until is not None
            elif alone:
                joins = one.service is batch[0].service and one.user_id == batch[0].user_id
            else:
                joins = one.service is batch[0].service and blocked_until is None
            if joins:
                batch.append(one)
            else:
                behind.add(one.user_id)
                left.append(one)
        self._waiting = left
        if batch:
            self._has_looked = batch[0].user_id in self._blocked
        return batch
