"""The queue of a lane: bounded, in order of arrival, and fair to users beside those whose rows are locked."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from oo_ml.errors import OverloadedError, UnavailableError
from oo_ml.execution.lane_queue import Queue, QueuedCommand


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that futures can belong to."""
    created = asyncio.new_event_loop()
    yield created
    created.close()


def service(_: object, commands: object) -> list[object]:
    """A service that is never run."""
    return [commands]


def put(queue: Queue, loop: asyncio.AbstractEventLoop, user_ids: str, *, timeout: float = 60) -> None:
    """Put a command of each user."""
    for user_id in user_ids.split():
        now = time.monotonic()
        queue.put(QueuedCommand(service, user_id, None, now, now + timeout, loop.create_future()))


def users(batch: list[QueuedCommand]) -> str:
    """Return the users of a batch."""
    return " ".join(one.user_id for one in batch)


def set_aside(queue: Queue, batch: list[QueuedCommand], seconds: float = 0.0) -> None:
    """Put a batch back and hold its users, as a lane does that finds their rows locked."""
    queue.hold({one.user_id for one in batch}, time.monotonic() + seconds)
    queue.put_back(batch)


def test_commands_put_back_keep_their_places(loop: asyncio.AbstractEventLoop) -> None:
    """Commands put back come first, and are not refused; a new command that finds the queue full is."""
    queue = Queue(capacity=2, batch=8, one_user=False)
    put(queue, loop, "ada ada")
    batch = queue.take()
    put(queue, loop, "ada ben")
    set_aside(queue, batch, 0.02)
    with pytest.raises(OverloadedError):
        put(queue, loop, "cyd")
    assert users(queue.take()) == "ben"
    behind = queue.take()
    assert behind[:2] == batch
    assert users(behind) == "ada ada ada"


def test_commands_put_back_keep_the_order_of_each_user(loop: asyncio.AbstractEventLoop) -> None:
    """Commands of several users that are put back together are taken in the order in which they were put."""
    queue = Queue(capacity=8, batch=8, one_user=False)
    put(queue, loop, "ada ben ada ben")
    batch = queue.take()
    set_aside(queue, batch)
    assert queue.take() == [batch[0], batch[2]]
    assert queue.take() == [batch[1], batch[3]]


def test_a_held_user_shares_no_batch(loop: asyncio.AbstractEventLoop) -> None:
    """Other users would have to wait for the locked row too; once the user is released, batches are shared again."""
    queue = Queue(capacity=8, batch=8, one_user=False)
    put(queue, loop, "ada")
    set_aside(queue, queue.take())
    put(queue, loop, "ben ada cyd")
    assert [users(queue.take()), users(queue.take())] == ["ada ada", "ben cyd"]
    # Whether or not the held user's command is the first.
    put(queue, loop, "ben ada cyd")
    assert [users(queue.take()), users(queue.take())] == ["ben cyd", "ada"]
    queue.release(["ada"])
    put(queue, loop, "ben ada cyd")
    assert users(queue.take()) == "ben ada cyd"


def test_a_closed_queue_is_emptied(loop: asyncio.AbstractEventLoop) -> None:
    """A closed queue refuses new commands, gives out the held ones when their time has come, and then ends."""
    queue = Queue(capacity=8, batch=8, one_user=False)
    put(queue, loop, "ada")
    set_aside(queue, queue.take(), 0.02)
    queue.close()
    with pytest.raises(UnavailableError):
        put(queue, loop, "ben")
    assert users(queue.take()) == "ada"
    assert queue.take() == []


def test_commands_past_their_deadline_are_dropped(loop: asyncio.AbstractEventLoop) -> None:
    """A command is not taken after its deadline, and the later commands of its user don't wait for it."""
    queue = Queue(capacity=8, batch=8, one_user=False)
    put(queue, loop, "ada ben", timeout=0)
    put(queue, loop, "ada")
    assert users(queue.take()) == "ada"
    put(queue, loop, "ada", timeout=0)
    queue.close()
    assert queue.take() == []


def test_held_users_do_not_starve_others(loop: asyncio.AbstractEventLoop) -> None:
    """Other users get their turn even if a held one is always due, since each try takes longer than the hold."""
    queue = Queue(capacity=8, batch=8, one_user=False)
    put(queue, loop, "ada ben")
    set_aside(queue, queue.take())
    put(queue, loop, "cyd")
    turns = []
    for _ in range(2):
        turns.append(users(batch := queue.take()))
        set_aside(queue, batch)
    assert turns == ["ada", "cyd"]
