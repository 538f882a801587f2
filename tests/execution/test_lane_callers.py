"""Whoever waits for a lane: callers that leave, deadlines that pass, event loops that end, and the end of the lane."""

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
    notes,
    outcomes,
    passed,
    recovered,
    running,
    send,
    written,
)
from tests.faults.proxy import Proxy, proxied
from tests.gates import scalar
from tests.waiting import PATIENCE, until

HURRIED: Final[dict[str, Any]] = {"lock_timeout": 1, "statement_timeout": 1, "request_timeout": 1}
HALF: Final = HURRIED["request_timeout"] / 2


pytestmark = pytest.mark.usefixtures("paper")


class Pause:
    """What a scribe does first: wait, in its transaction with so many notes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.began = threading.Event()
        self.ended = threading.Event()

    def __call__(self, _: Connection, commands: Sequence[Note]) -> None:
        """Wait, if it is that one."""
        if len(commands) == self.size:
            self.began.set()
            assert self.ended.wait(PATIENCE)


class Mute:
    """What a scribe does first: let the server fall silent, once."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.began = threading.Event()

    def __call__(self, _: Connection, __: Sequence[Note]) -> None:
        """Mute it, if it has not been."""
        if not self.began.is_set():
            self.proxy.mute()
            self.began.set()


# Handlers that are cancelled


def test_a_cancelled_handler_changes_nothing(database_url: str, db: Engine) -> None:
    """Whether its command is under way or still waits: it is done once, and its neighbours are told theirs."""

    async def cancel(lanes: Lanes) -> list[Any]:
        async with busy(lanes):
            handlers = await send(lanes, scribe, notes("ada ben cyd"))
            handlers[0].cancel()
        await passed(pause.began)
        handlers[1].cancel()
        pause.ended.set()
        return await outcomes(handlers)

    scribe = Scribe(before=(pause := Pause(3)))
    with running(database_url) as (lanes, _):
        first, second, third = asyncio.run(cancel(lanes))
    assert isinstance(first, asyncio.CancelledError)
    assert isinstance(second, asyncio.CancelledError)
    assert third == 3
    assert written(db) == scribe.calls == [notes("ada ben cyd")]


def test_a_silent_server_is_cut_even_if_nobody_waits_any_more(database_url: str, db: Engine) -> None:
    """At the deadline of a command whose handler is gone, so that those behind it get on."""

    async def abandon(lanes: Lanes) -> int:
        handlers = await send(lanes, scribe, notes("ada"))
        await passed(mute.began)
        handlers[0].cancel()
        await outcomes(handlers)
        began = time.monotonic()
        number: int = await recovered(lanes, scribe, Note("ben", 2))
        assert time.monotonic() - began < PATIENCE / 2
        return number

    with proxied(database_url) as (proxy, url), running(url, **HURRIED) as (lanes, _):
        scribe = Scribe(before=(mute := Mute(proxy)))
        assert asyncio.run(abandon(lanes)) == 2
    assert {note for transaction in written(db) for note in transaction} == {Note("ben", 2)}


# Deadlines


def test_what_waits_past_its_deadline_is_never_done(database_url: str, db: Engine) -> None:
    """Its caller has been told that it failed; whoever waits beside it and has time left is served."""

    async def both(lanes: Lanes) -> list[Any]:
        async with busy(lanes):
            early = await send(lanes, scribe, [Note("ada", 1), Note("ben", 2)])
            await asyncio.sleep(HALF)
            late = await send(lanes, scribe, [Note("ada", 3), Note("ben", 4)])
            await asyncio.wait(early)
        return await outcomes(early + late)

    scribe = Scribe()
    with running(database_url, **HURRIED) as (lanes, _):
        told = asyncio.run(both(lanes))
    assert [type(one) for one in told[:2]] == [DatabaseTimeoutError, DatabaseTimeoutError]
    assert told[2:] == [3, 4]
    assert written(db) == scribe.calls == [[Note("ada", 3), Note("ben", 4)]]


def test_each_is_told_at_its_own_deadline(database_url: str, db: Engine) -> None:
    """A transaction goes on as long as the youngest of its commands may wait, whatever the older ones were told."""

    async def both(lanes: Lanes) -> list[Any]:
        async with busy(lanes):
            old = await send(lanes, scribe, notes("ada"))
            await asyncio.sleep(HALF)
            young = await send(lanes, scribe, [Note("ben", 2)])
        await passed(pause.began)
        await asyncio.wait(old)
        assert not young[0].done()
        pause.ended.set()
        return await outcomes(old + young)

    scribe = Scribe(before=(pause := Pause(2)))
    with running(database_url, **HURRIED) as (lanes, _):
        old, young = asyncio.run(both(lanes))
    assert type(old) is DatabaseTimeoutError
    assert young == 2
    assert written(db) == [[Note("ada", 1), Note("ben", 2)]]


def test_a_silent_server_is_cut_at_the_deadline_of_the_youngest(database_url: str, db: Engine) -> None:
    """Each caller is told in time, none before; nothing was done, and the lane goes on with a new connection."""

    async def both(lanes: Lanes) -> None:
        async with busy(lanes):
            sent = [time.monotonic()]
            handlers = await send(lanes, scribe, notes("ada"))
            await asyncio.sleep(HALF)
            sent.append(time.monotonic())
            handlers += await send(lanes, scribe, [Note("ben", 2)])
        for begin, handler in zip(sent, handlers, strict=True):
            with pytest.raises(DatabaseTimeoutError):
                await handler
            # Not a lost connection, which would have been told sooner.
            assert HURRIED["request_timeout"] - 0.01 < time.monotonic() - begin < 10
        assert await recovered(lanes, scribe, Note("cyd", 3)) == 3

    with proxied(database_url) as (proxy, url), running(url, **HURRIED) as (lanes, _):
        scribe = Scribe(before=Mute(proxy))
        asyncio.run(both(lanes))
    assert scribe.calls[0] == [Note("ada", 1), Note("ben", 2)]
    assert {note for transaction in written(db) for note in transaction} == {Note("cyd", 3)}


@pytest.mark.usefixtures("db")
def test_nobody_is_told_before_the_deadline(database_url: str) -> None:
    """What the lane may still begin has a caller who still waits, whichever event loop counts the time."""

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

        # An event loop that has other things to do than to wait for that moment.
        turning = asyncio.create_task(turn())
        async with busy(lanes):
            told = await asyncio.gather(*(early(number) for number in range(100)))
        turning.cancel()
        return told

    with running(database_url, lock_timeout=0.2, statement_timeout=0.2, request_timeout=0.2) as (lanes, _):
        asyncio.run(recovered(lanes, Scribe(), Note("ada", 1)))
        assert max(uvloop.run(hurry(lanes))) <= 0


def test_a_cut_that_comes_just_after_commit_costs_nobody_else(
    database_url: str, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline passes between COMMIT and the answer: whoever comes next gets another connection."""
    told = threading.Event()

    async def both(lanes: Lanes) -> None:
        with pytest.raises(DatabaseTimeoutError):
            await lanes.run(scribe, "ada", Note("ada", 1))
        told.set()
        assert await lanes.run(scribe, "ben", Note("ben", 2)) == 2

    scribe = Scribe()
    with running(database_url, **HURRIED) as (lanes, own):
        commit = own.dialect.do_commit

        def slowly(connection: Any) -> None:  # noqa: ANN401 - the driver's
            commit(connection)
            assert told.wait(PATIENCE)

        monkeypatch.setattr(own.dialect, "do_commit", slowly)
        asyncio.run(both(lanes))
    assert written(db) == [[Note("ada", 1)], [Note("ben", 2)]]


def test_what_was_answered_is_let_go(database_url: str) -> None:
    """Long before its deadline: what a lane remembers does not grow with what it has done."""

    class Command:
        pass

    def serve(_: Connection, commands: Sequence[Command]) -> list[None]:
        return [None] * len(commands)

    async def some(lanes: Lanes) -> int:
        commands = [Command() for _ in range(5)]
        remembered = [weakref.ref(command) for command in commands]
        while commands:
            await lanes.run(serve, "ada", commands.pop())
        # The lane is done with what came before this.
        await lanes.run(serve, "ada", Command())
        gc.collect()
        return sum(reference() is not None for reference in remembered)

    with running(database_url) as (lanes, _):
        assert asyncio.run(some(lanes)) == 0


# Event loops


def test_event_loops_may_come_and_go(database_url: str, db: Engine) -> None:
    """What one has left behind is done, and the next one finds the lane at work."""

    async def leave(lanes: Lanes) -> None:
        await send(lanes, scribe, notes("ada"))
        await passed(pause.began)

    async def stay(lanes: Lanes) -> list[Any]:
        handlers = await send(lanes, scribe, [Note("ada", 2), Note("ben", 3)])
        pause.ended.set()
        return await outcomes(handlers)

    scribe = Scribe(before=(pause := Pause(1)))
    with running(database_url) as (lanes, _):
        asyncio.run(leave(lanes))
        assert asyncio.run(stay(lanes)) == [2, 3]
    assert written(db) == [[Note("ada", 1)], [Note("ada", 2), Note("ben", 3)]]


# The end


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Afterwards no thread of a lane runs that did not before."""
    before = set(threading.enumerate())
    yield
    assert not [one.name for one in set(threading.enumerate()) - before if one.name.startswith("lane-")]


@pytest.mark.usefixtures("nothing_left")
def test_closing_finishes_what_was_accepted(database_url: str, db: Engine) -> None:
    """Queued commands too; what comes later is refused; no thread and no connection is left."""
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
    assert [note.number for transaction in written(db) for note in transaction] == told
    until(lambda: scalar(db, "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(:pids)", pids=list(backends)) == 0)


@pytest.mark.usefixtures("nothing_left")
def test_closing_does_not_wait_for_a_silent_server(database_url: str, db: Engine) -> None:
    """Within its limit it ends what is under way and begins nothing more, though all would have time left."""

    async def close(lanes: Lanes) -> list[Any]:
        handlers = await send(lanes, scribe, notes("ada"))
        await passed(mute.began)
        handlers += await send(lanes, other, [Note("ben", 2)])
        began = time.monotonic()
        await asyncio.to_thread(lanes.close, 0.2)
        assert time.monotonic() - began < 10
        for handler in handlers:
            handler.cancel()
        return await outcomes(handlers)

    other = Scribe("other")
    with proxied(database_url) as (proxy, url), running(url) as (lanes, _):
        scribe = Scribe(before=(mute := Mute(proxy)))
        told = asyncio.run(close(lanes))
    assert isinstance(told[0], UnavailableError | asyncio.CancelledError)
    assert isinstance(told[1], asyncio.CancelledError)
    assert other.calls == []
    assert written(db) == []


@pytest.mark.usefixtures("nothing_left")
def test_closing_waits_no_longer_than_callers_would(database_url: str) -> None:
    """Even without a limit of its own, and although nobody is left whose deadline could cut the server off."""

    async def abandon(lanes: Lanes) -> None:
        await send(lanes, scribe, notes("ada"))
        await passed(mute.began)

    with proxied(database_url) as (proxy, url), running(url, **HURRIED) as (lanes, _):
        scribe = Scribe(before=(mute := Mute(proxy)))
        asyncio.run(abandon(lanes))
        began = time.monotonic()
        lanes.close()
        assert time.monotonic() - began < 10


@pytest.mark.usefixtures("nothing_left")
def test_idle_lanes_close_at_once_and_once_more(database_url: str) -> None:
    """Lanes that never had anything to do let go too, and closing twice is no mistake."""
    with running(database_url, lanes=4) as (lanes, _):
        began = time.monotonic()
        lanes.close()
        assert time.monotonic() - began < 10
