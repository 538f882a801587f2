"""Callers of lanes: cancelled handlers, deadlines, closed event loops, and the closing of the lanes."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Final

import pytest
import uvloop
from sqlalchemy import Connection, Engine, text

from oo_ml.errors import DatabaseTimeoutError, UnavailableError
from oo_ml.execution.lanes import Lanes
from tests.execution.notes import (
    Note,
    Scribe,
    busy,
    hurried,
    notes,
    outcomes,
    read_written,
    running,
    send,
    send_until_done,
    wait_for,
)
from tests.faults.proxy import Proxy, run_proxy
from tests.gates import scalar
from tests.waiting import PATIENCE, until

# The deadline of commands that must have begun before it, in seconds: on a busy machine this may take long.
SOON: Final = 3.0


pytestmark = pytest.mark.usefixtures("paper")


class Pause:
    """A first action of a scribe: wait, in its transaction with `size` notes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.began = threading.Event()
        self.ended = threading.Event()

    def __call__(self, _: Connection, commands: Sequence[Note]) -> None:
        """Wait, if there are so many."""
        if len(commands) == self.size:
            self.began.set()
            assert self.ended.wait(PATIENCE)


class Mute:
    """A first action of a scribe: let the server fall silent, once."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.began = threading.Event()

    def __call__(self, _: Connection, __: Sequence[Note]) -> None:
        """Mute the server, unless this was done before."""
        if not self.began.is_set():
            self.proxy.mute()
            self.began.set()


# Handlers that are cancelled


def test_cancelled_handlers(database_url: str, db: Engine) -> None:
    """A command whose handler is cancelled, queued or under way, is run once, and its neighbours get their outcomes."""

    async def cancel(lanes: Lanes) -> list[Any]:
        async with busy(lanes):
            handlers = await send(lanes, scribe, notes("ada ben cyd"))
            handlers[0].cancel()
        await wait_for(pause.began)
        handlers[1].cancel()
        pause.ended.set()
        return await outcomes(handlers)

    scribe = Scribe(before=(pause := Pause(3)))
    with running(database_url) as (lanes, _):
        first, second, third = asyncio.run(cancel(lanes))
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(second, asyncio.CancelledError)
    assert third == 3
    assert read_written(db) == scribe.calls == [notes("ada ben cyd")]


def test_deadline_of_a_cancelled_handler(database_url: str, db: Engine) -> None:
    """A lane gives up a silent server at a command's deadline even if the handler is gone, and serves the next one."""

    async def abandon(lanes: Lanes) -> int:
        with hurried(lanes, SOON):
            handlers = await send(lanes, scribe, notes("ada"))
        await wait_for(mute.began)
        handlers[0].cancel()
        await outcomes(handlers)
        began = time.monotonic()
        number: int = await send_until_done(lanes, scribe, Note("ben", 2))
        assert time.monotonic() - began < PATIENCE / 2
        return number

    with run_proxy(database_url) as (proxy, url), running(url, request_timeout=PATIENCE) as (lanes, _):
        scribe = Scribe(before=(mute := Mute(proxy)))
        assert asyncio.run(abandon(lanes)) == 2
    assert {note for transaction in read_written(db) for note in transaction} == {Note("ben", 2)}


# Deadlines


def test_commands_past_their_deadline_never_begin(database_url: str, db: Engine) -> None:
    """A command that waits past its deadline is never run; the commands beside it that have time left are."""

    async def both(lanes: Lanes) -> list[Any]:
        async with busy(lanes):
            with hurried(lanes, 0.2):
                early = await send(lanes, scribe, [Note("ada", 1), Note("ben", 2)])
            late = await send(lanes, scribe, [Note("ada", 3), Note("ben", 4)])
            await asyncio.wait(early)
        return await outcomes(early + late)

    scribe = Scribe()
    with running(database_url) as (lanes, _):
        told = asyncio.run(both(lanes))
    assert [type(one) for one in told[:2]] == [DatabaseTimeoutError, DatabaseTimeoutError]
    assert told[2:] == [3, 4]
    assert read_written(db) == scribe.calls == [[Note("ada", 3), Note("ben", 4)]]


def test_deadline_of_each_command(database_url: str, db: Engine) -> None:
    """Each caller is told at its own deadline; the transaction goes on until the last deadline of its commands."""

    async def both(lanes: Lanes) -> list[Any]:
        async with busy(lanes):
            with hurried(lanes, SOON):
                old = await send(lanes, scribe, notes("ada"))
            young = await send(lanes, scribe, [Note("ben", 2)])
        await wait_for(pause.began)
        await asyncio.wait(old)
        assert not young[0].done()
        pause.ended.set()
        return await outcomes(old + young)

    scribe = Scribe(before=(pause := Pause(2)))
    with running(database_url) as (lanes, _):
        old, young = asyncio.run(both(lanes))
    assert type(old) is DatabaseTimeoutError
    assert young == 2
    assert read_written(db) == [[Note("ada", 1), Note("ben", 2)]]


def test_silent_server(database_url: str, db: Engine) -> None:
    """A transaction on a silent server ends at the last deadline of its commands; then the lane reconnects."""

    async def both(lanes: Lanes) -> None:
        async with busy(lanes):
            began, handlers = time.monotonic(), []
            for note, seconds in limits.items():
                with hurried(lanes, seconds):
                    handlers += await send(lanes, scribe, [note])
        for handler, seconds in zip(handlers, limits.values(), strict=True):
            with pytest.raises(DatabaseTimeoutError):
                await handler
            # A lost connection would have been reported sooner.
            assert seconds - 0.01 < time.monotonic() - began < PATIENCE / 2
        assert await send_until_done(lanes, scribe, Note("cyd", 3)) == 3

    limits = {Note("ada", 1): SOON, Note("ben", 2): SOON + 0.5}
    with run_proxy(database_url) as (proxy, url), running(url, request_timeout=PATIENCE) as (lanes, _):
        scribe = Scribe(before=Mute(proxy))
        asyncio.run(both(lanes))
    assert scribe.calls[0] == list(limits)
    assert {note for transaction in read_written(db) for note in transaction} == {Note("cyd", 3)}


@pytest.mark.usefixtures("db")
def test_timeout_is_not_early(database_url: str) -> None:
    """No caller gets a timeout before its deadline, in any event loop, because its command may begin until then."""

    async def hurry(lanes: Lanes) -> list[float]:
        async def turn() -> None:
            for _ in count():
                await asyncio.sleep(0)

        async def early(number: int) -> float:
            await asyncio.sleep(number / 1000)
            began = time.monotonic()
            with pytest.raises(DatabaseTimeoutError):
                await lanes.run(Scribe(), "ada", Note("ada", number))
            return began + 0.2 - time.monotonic()

        # An event loop that is busy, so that its clock is read at any moment.
        turning = asyncio.create_task(turn())
        async with busy(lanes):
            told = await asyncio.gather(*(early(number) for number in range(100)))
        turning.cancel()
        return told

    with running(database_url, lock_timeout=0.2, statement_timeout=0.2, request_timeout=0.2) as (lanes, _):
        asyncio.run(send_until_done(lanes, Scribe(), Note("ada", 1)))
        assert max(uvloop.run(hurry(lanes))) <= 0


def test_deadline_between_commit_and_answer(database_url: str, db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the deadline passes between COMMIT and its answer, later commands are served as usual."""
    told = threading.Event()

    async def both(lanes: Lanes) -> None:
        with hurried(lanes, SOON), pytest.raises(DatabaseTimeoutError):
            await lanes.run(scribe, "ada", Note("ada", 1))
        told.set()
        assert await lanes.run(scribe, "ben", Note("ben", 2)) == 2

    scribe = Scribe()
    with running(database_url) as (lanes, own):
        commit = own.dialect.do_commit

        def slowly(connection: Any) -> None:  # noqa: ANN401 - the driver's
            commit(connection)
            assert told.wait(PATIENCE)

        monkeypatch.setattr(own.dialect, "do_commit", slowly)
        asyncio.run(both(lanes))
    assert read_written(db) == [[Note("ada", 1)], [Note("ben", 2)]]


def test_answered_commands_are_freed(database_url: str) -> None:
    """A lane keeps no reference to commands that it has answered, even if their deadlines are far away."""

    class Command:
        pass

    def serve(_: Connection, commands: Sequence[Command]) -> list[None]:
        return [None] * len(commands)

    async def some(lanes: Lanes) -> int:
        commands = [Command() for _ in range(5)]
        remembered = [weakref.ref(command) for command in commands]
        while commands:
            await lanes.run(serve, "ada", commands.pop())
        # After this one the lane has finished the earlier ones.
        await lanes.run(serve, "ada", Command())
        gc.collect()
        return sum(reference() is not None for reference in remembered)

    with running(database_url) as (lanes, _):
        assert asyncio.run(some(lanes)) == 0


# Event loops


def test_closed_event_loop(database_url: str, db: Engine) -> None:
    """Commands of an event loop that has been closed are run, and the lane serves the next event loop."""

    async def leave(lanes: Lanes) -> None:
        await send(lanes, scribe, notes("ada"))
        await wait_for(pause.began)

    async def stay(lanes: Lanes) -> list[Any]:
        handlers = await send(lanes, scribe, [Note("ada", 2), Note("ben", 3)])
        pause.ended.set()
        return await outcomes(handlers)

    scribe = Scribe(before=(pause := Pause(1)))
    with running(database_url) as (lanes, _):
        asyncio.run(leave(lanes))
        assert asyncio.run(stay(lanes)) == [2, 3]
    assert read_written(db) == [[Note("ada", 1)], [Note("ada", 2), Note("ben", 3)]]


# Closing


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Check that the test leaves no thread of a lane behind."""
    before = set(threading.enumerate())
    yield
    assert not [one.name for one in set(threading.enumerate()) - before if one.name.startswith("lane-")]


@pytest.mark.usefixtures("nothing_left")
def test_close_finishes_accepted_commands(database_url: str, db: Engine) -> None:
    """Closing runs the queued commands, refuses later ones, and leaves no thread and no connection."""
    backends: set[int] = set()

    def backend(connection: Connection, _: object) -> None:
        backends.add(connection.scalars(text("SELECT pg_backend_pid()")).one())

    async def close(lanes: Lanes) -> list[Any]:
        async with busy(lanes) as gate:
            handlers = await send(lanes, scribe, notes("ada ben ada"))
            closing = asyncio.create_task(asyncio.to_thread(lanes.close))
            while not handlers[-1].done():
                await asyncio.sleep(0.01)
                handlers += await send(lanes, scribe, [Note("late", len(handlers) + 1)])
            assert type(handlers.pop().exception()) is UnavailableError
            assert not closing.done()
            gate.opened.set()
            await closing
        return await outcomes(handlers)

    scribe = Scribe(before=backend)
    with running(database_url, batch=2) as (lanes, _):
        told = asyncio.run(close(lanes))
    assert told == list(range(1, len(told) + 1))
    assert [note.number for transaction in read_written(db) for note in transaction] == told
    until(lambda: scalar(db, "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(:pids)", pids=list(backends)) == 0)


@pytest.mark.usefixtures("nothing_left")
def test_close_within_a_limit(database_url: str, db: Engine) -> None:
    """After its limit, close ends the transaction under way and begins no other, and their callers are told."""

    async def close(lanes: Lanes) -> list[Any]:
        handlers = await send(lanes, scribe, notes("ada"))
        await wait_for(mute.began)
        handlers += await send(lanes, other, [Note("ben", 2)])
        began = time.monotonic()
        await asyncio.to_thread(lanes.close, 0.2)
        assert time.monotonic() - began < PATIENCE / 2
        return await outcomes(handlers)

    other = Scribe("other")
    with run_proxy(database_url) as (proxy, url), running(url) as (lanes, _):
        scribe = Scribe(before=(mute := Mute(proxy)))
        told = asyncio.run(close(lanes))
    assert [isinstance(one, UnavailableError) for one in told] == [True, True]
    assert other.calls == []
    assert read_written(db) == []


@pytest.mark.usefixtures("nothing_left")
def test_close_without_a_limit(database_url: str) -> None:
    """Without a limit, close waits for a silent server until the deadline, even if no event loop is left."""

    async def abandon(lanes: Lanes) -> None:
        await send(lanes, scribe, notes("ada"))
        await wait_for(mute.began)

    with run_proxy(database_url) as (proxy, url), running(url) as (lanes, _), hurried(lanes, SOON):
        scribe = Scribe(before=(mute := Mute(proxy)))
        asyncio.run(abandon(lanes))
        began = time.monotonic()
        lanes.close()
        assert time.monotonic() - began < PATIENCE / 2


@pytest.mark.usefixtures("nothing_left")
def test_close_idle_lanes(database_url: str) -> None:
    """Idle lanes close at once, and closing them again is no error."""
    with running(database_url, lanes=4) as (lanes, _):
        began = time.monotonic()
        lanes.close()
        assert time.monotonic() - began < PATIENCE / 2
