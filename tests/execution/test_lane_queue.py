"""What waits for a lane: bounded, in order, and nobody for ever."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from oo_ml.errors import DatabaseTimeoutError, OverloadedError
from oo_ml.execution.lane_queue import Attempt, Queue, Waiting
from oo_ml.execution.transaction import Transaction


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that futures can belong to."""
    created = asyncio.new_event_loop()
    yield created
    created.close()


def service(_: object, commands: object) -> list[object]:
    """A service that is never run."""
    return [commands]


def put(queue: Queue, loop: asyncio.AbstractEventLoop, user_ids: str) -> None:
    """Put a command of each user."""
    for user_id in user_ids.split():
        now = time.monotonic()
        queue.put(Waiting(service, user_id, None, now, now + 60, loop.create_future()))


def names(batch: list[Waiting]) -> str:
    """Return whose commands they are."""
    return " ".join(one.user_id for one in batch)


def test_what_is_put_back_comes_first_and_takes_no_room(loop: asyncio.AbstractEventLoop) -> None:
    """It was accepted once; a newer one that finds the queue full is refused."""
    queue = Queue(room=2, batch=8, one_user=False)
    put(queue, loop, "ada ada")
    batch = queue.take()
    put(queue, loop, "ada ben")
    queue.put_back(batch, "ada", time.monotonic() + 0.02)
    with pytest.raises(OverloadedError):
        put(queue, loop, "cyd")
    assert names(queue.take()) == "ben"
    behind = queue.take()
    assert behind[:2] == batch
    assert names(behind) == "ada ada ada"


def test_whoever_is_set_aside_shares_with_nobody_until_it_is_well(loop: asyncio.AbstractEventLoop) -> None:
    """Others would have to wait for that row, too."""
    queue = Queue(room=8, batch=8, one_user=False)
    put(queue, loop, "ada")
    queue.put_back(queue.take(), "ada", time.monotonic())
    put(queue, loop, "ben ada cyd")
    assert [names(queue.take()), names(queue.take())] == ["ada ada", "ben cyd"]
    # Whether or not it is the first.
    put(queue, loop, "ben ada cyd")
    assert [names(queue.take()), names(queue.take())] == ["ben cyd", "ada"]
    queue.unblock(["ada"])
    put(queue, loop, "ben ada cyd")
    assert names(queue.take()) == "ben ada cyd"


def test_a_closed_queue_still_gives_what_was_set_aside(loop: asyncio.AbstractEventLoop) -> None:
    """At its time, and then says that nothing more comes; unless it is cleared."""
    for is_cleared in (False, True):
        queue = Queue(room=8, batch=8, one_user=False)
        put(queue, loop, "ada")
        queue.put_back(queue.take(), "ada", time.monotonic() + (60 if is_cleared else 0.02))
        queue.close()
        if is_cleared:
            queue.clear()
        else:
            assert names(queue.take()) == "ada"
        assert queue.take() == []


def test_the_locked_rows_of_many_do_not_keep_the_others_from_their_turn(loop: asyncio.AbstractEventLoop) -> None:
    """Each look takes longer than the pause until the next one is due, so that one is always due."""
    queue = Queue(room=8, batch=8, one_user=False)
    put(queue, loop, "ada ben")
    for _ in range(2):
        [one] = queue.take()[:1]
        queue.put_back([one], one.user_id, time.monotonic())
        put(queue, loop, "ben") if one.user_id == "ada" else None
    put(queue, loop, "cyd")
    turns: list[str] = []
    while "cyd" not in turns and len(turns) < 10:
        batch = queue.take()
        turns.append(names(batch[:1]))
        queue.put_back(batch, batch[0].user_id, time.monotonic())
    assert "cyd" in turns[:3]


class Noted(Transaction):
    """A transaction that notes that it was cut."""

    is_noted = False

    def cut(self) -> None:
        """Note it."""
        self.is_noted = True


def test_whoever_gives_up_last_ends_the_transaction(loop: asyncio.AbstractEventLoop) -> None:
    """One of them did before the lane had noted what it is at: no reason to go on once the other has, too."""
    queue = Queue(room=8, batch=8, one_user=False)
    put(queue, loop, "ada ben")
    ada, ben = batch = queue.take()
    transaction = Noted(time.monotonic() + 60)
    attempt = Attempt(transaction, batch)
    ada.give_up()
    assert not attempt.is_late
    ada.attempt = ben.attempt = attempt
    ben.give_up()
    assert attempt.is_late
    assert transaction.is_noted
    assert [type(one.answer.exception()) for one in batch] == [DatabaseTimeoutError] * 2
