"""The queue of a lane: commands in the order of their arrival, and the users whose rows other sessions keep locked."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Final

from oo_ml.errors import OverloadedError, UnavailableError
from oo_ml.storage.postgres.sessions import Writing

# Seconds after which a user whose row was found locked is treated like any other again.
_FORGET: Final = 60.0

AnyService = Callable[[Writing, Sequence[Any]], Sequence[Any]]


@dataclass(slots=True, eq=False)
class QueuedCommand:
    """A command that was accepted.

    Attributes:
        service: the service to run on it.
        accepted: time.monotonic() of its arrival.
        deadline: the time.monotonic() after which it may not begin, and its caller is told that it failed.
        answer: the future its caller waits for.
        context: the context variables of its request, such as the request's id.
    """

    service: AnyService
    user_id: str
    command: object
    accepted: float
    deadline: float
    answer: asyncio.Future[Any]
    context: Context = field(default_factory=copy_context)


class Queue:
    """A bounded queue. Any thread may put commands; one thread takes batches, and alone calls all other methods."""

    def __init__(self, *, capacity: int, batch: int, one_user: bool) -> None:
        """Create an empty queue of at most `capacity` commands and `batch` in a batch; `one_user`: of one user only."""
        self._capacity = capacity
        self._batch = batch
        self._one_user = one_user
        self._waiting: deque[QueuedCommand] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        # By user, the time until which their row, which was found locked, is left alone.
        self._held: dict[str, float] = {}
        # Whether the last batch was of such a user: then other users come first, however many rows are locked.
        self._others_first = False

    def put(self, command: QueuedCommand) -> None:
        """Accept a command.

        Raises:
            OverloadedError: the queue is full.
            UnavailableError: the queue is closed.
        """
        with self._changed:
            if self._is_closed:
                raise UnavailableError
            if len(self._waiting) >= self._capacity:
                raise OverloadedError
            self._waiting.append(command)
            self._changed.notify()

    def take(self) -> list[QueuedCommand]:
        """Wait for commands that may share a transaction, and return them; none once the queue is closed and empty."""
        with self._changed:
            while not (batch := self._next_batch()) and not (self._is_closed and not self._waiting):
                # The commands that wait now are held.
                again = min((self._held.get(one.user_id, 0.0) for one in self._waiting), default=None)
                self._changed.wait(None if again is None else max(0.0, again - time.monotonic()))
            return batch

    def _next_batch(self) -> list[QueuedCommand]:
        """Take the first command that may begin, and those that may share its transaction.

        A command never overtakes an earlier one of its user. Commands past their deadline are dropped.
        """
        now = time.monotonic()
        others_first = self._others_first and any(one.user_id not in self._held for one in self._waiting)
        batch: list[QueuedCommand] = []
        skipped: list[QueuedCommand] = []
        skipped_users: set[str] = set()
        while self._waiting and len(batch) < self._batch:
            one = self._waiting.popleft()
            if one.deadline <= now:
                continue
            if one.user_id in skipped_users:
                fits = False
            elif batch:
                fits = self._may_share(one, batch[0])
            else:
                held_until = self._held.get(one.user_id)
                fits = held_until is None or (held_until <= now and not others_first)
            if fits:
                batch.append(one)
            else:
                skipped.append(one)
                skipped_users.add(one.user_id)
        self._waiting.extendleft(reversed(skipped))
        if batch:
            self._others_first = batch[0].user_id in self._held
        return batch

    def _may_share(self, one: QueuedCommand, first: QueuedCommand) -> bool:
        """Return whether a command may share the transaction of another one, which begins a batch.

        A user whose row was found locked shares with no other user, so that only their own commands wait for it.
        """
        if one.service is not first.service:
            return False
        if self._one_user or first.user_id in self._held:
            return one.user_id == first.user_id
        return one.user_id not in self._held

    def hold(self, user_ids: Iterable[str], until: float) -> None:
        """Hold the commands of users, present and future, until then: their rows are locked by other sessions."""
        self._held = {user: again for user, again in self._held.items() if again > until - _FORGET}
        self._held.update(dict.fromkeys(user_ids, until))

    def release(self, user_ids: Iterable[str]) -> None:
        """Treat users like any other again: their rows are not locked by other sessions."""
        for user_id in user_ids:
            self._held.pop(user_id, None)

    def is_held(self, user_id: str) -> bool:
        """Return whether a user's row was found locked the last time."""
        return user_id in self._held

    def put_back(self, commands: Sequence[QueuedCommand]) -> None:
        """Return commands to the head of the queue; they were accepted once and are never refused."""
        with self._changed:
            self._waiting.extendleft(reversed(commands))

    def __len__(self) -> int:
        return len(self._waiting)

    def is_empty(self) -> bool:
        """Return whether no command waits."""
        return not self._waiting

    def close(self) -> None:
        """Refuse new commands; those that wait are still taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
