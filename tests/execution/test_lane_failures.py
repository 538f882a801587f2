"""What fails in a lane fails alone: a poisonous command, a locked row, a lost connection, an abort, a bug."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from oo_ml.domain.policies import LINUCB
from oo_ml.errors import DatabaseTimeoutError, DatabaseUnavailableError, RowLockedError, UnexpectedError
from oo_ml.execution.lanes import Lanes
from oo_ml.storage import states
from oo_ml.storage.states import StateKey
from tests import calls
from tests.conftest import Serve
from tests.execution.notes import (
    FORBIDDEN,
    Note,
    Scribe,
    busy,
    notes,
    outcomes,
    running,
    send,
    together,
    written,
)
from tests.faults import aborts
from tests.faults.aborts import aborted, commits_lost
from tests.faults.proxy import Proxy, proxied
from tests.gates import holding_state
from tests.waiting import until

# A lane waits for a row a moment, a command a while.
SHORT: dict[str, Any] = {"lane_lock_timeout": 0.05}
FIVE = notes("ada ben cyd ben dora")


pytestmark = pytest.mark.usefixtures("paper")


def lock_rows(connection: Connection, commands: Sequence[Note]) -> None:
    """Lock the row of each user, as the services do."""
    states.lock_or_create_states(connection, [StateKey(note.user_id, LINUCB) for note in commands])


@pytest.fixture
def ada_and_ben(db: Engine) -> None:
    """Two users who have a row."""
    with db.begin() as connection:
        lock_rows(connection, notes("ada ben"))


# Poison


def test_what_a_service_cannot_bear_fails_alone(database_url: str, db: Engine) -> None:
    """Its caller gets the very exception; its neighbours are done, once."""

    def choke(_: Connection, commands: Sequence[Note]) -> None:
        if FIVE[2] in commands:
            raise ValueError("poison")

    scribe = Scribe(before=choke)
    with running(database_url) as (lanes, _):
        told = asyncio.run(together(lanes, scribe, FIVE))
    assert isinstance(told[2], ValueError)
    assert [one for one in told if one is not told[2]] == [1, 2, 4, 5]
    assert written(db) == [[FIVE[0]], [FIVE[1]], [FIVE[3]], [FIVE[4]]]
    assert scribe.calls == [FIVE, *([note] for note in FIVE)]


def test_what_the_database_refuses_fails_alone(database_url: str, db: Engine) -> None:
    """A row that breaks a constraint takes nobody with it."""
    five = [*FIVE[:2], Note("cyd", FORBIDDEN), *FIVE[3:]]
    with running(database_url) as (lanes, _):
        told = asyncio.run(together(lanes, Scribe(), five))
    assert isinstance(told[2], UnexpectedError)
    assert [one for one in told if one is not told[2]] == [1, 2, 4, 5]
    assert written(db) == [[note] for note in five if note.number != FORBIDDEN]


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("another"), ArithmeticError()])
def test_a_bug_reaches_its_caller_and_the_lane_lives_on(database_url: str, db: Engine, error: Exception) -> None:
    """As it is: the API turns it into a 500."""

    def choke(_: Connection, commands: Sequence[Note]) -> None:
        if commands[0].user_id == "ada":
            raise error

    async def both(lanes: Lanes) -> None:
        with pytest.raises(type(error)) as caught:
            await lanes.run(scribe, "ada", Note("ada", 1))
        assert caught.value is error
        assert await lanes.run(scribe, "ben", Note("ben", 2)) == 2

    scribe = Scribe(before=choke)
    with running(database_url) as (lanes, _):
        asyncio.run(both(lanes))
    assert written(db) == [[Note("ben", 2)]]


def test_a_bug_is_a_500(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells nothing, and the next call is served."""

    def broken(_: Connection, commands: Sequence[object]) -> list[None]:
        raise RuntimeError(commands)

    service = serve(lanes=1)
    with monkeypatch.context() as patched:
        patched.setattr("oo_ml.api.decisions.endpoints.learn", broken)
        answer = service.client.post("/reward", json=calls.reward())
    assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
    assert service.client.post("/reward", json=calls.reward()).status_code == 200


def test_an_exhausted_iterator_is_a_bug_too(database_url: str) -> None:
    """`next` of nothing raises what no future takes; the caller must be told something."""

    def exhausted(_: Connection, commands: Sequence[Note]) -> list[int]:
        return [next(iter(())) for _ in commands]

    async def one(lanes: Lanes) -> None:
        async with asyncio.timeout(2):
            await lanes.run(exhausted, "ada", Note("ada", 1))

    with running(database_url) as (lanes, _), pytest.raises((RuntimeError, TypeError, StopIteration, UnexpectedError)):
        asyncio.run(one(lanes))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_service_that_forgets_an_outcome_does_not_end_its_lane(database_url: str, db: Engine) -> None:
    """A bug like any other: whoever called is told of an error, and the lane lives on."""

    def forget(connection: Connection, commands: Sequence[Note]) -> list[int]:
        return scribe(connection, commands)[:-1]

    async def both(lanes: Lanes) -> None:
        async with asyncio.timeout(2):
            with pytest.raises((ValueError, UnexpectedError)):
                await lanes.run(forget, "ada", Note("ada", 1))
            assert await lanes.run(scribe, "ada", Note("ada", 2)) == 2

    scribe = Scribe()
    with running(database_url) as (lanes, _):
        asyncio.run(both(lanes))
    assert written(db)[-1] == [Note("ada", 2)]


# Locked rows


@pytest.mark.usefixtures("ada_and_ben")
def test_a_locked_row_keeps_its_user_waiting_and_nobody_else(database_url: str, db: Engine) -> None:
    """In the very same lane; what came for that user is done in order as soon as the row is let go, and only then."""

    async def crowd(lanes: Lanes, holder: Connection) -> None:
        async with busy(lanes):
            waiting = await send(lanes, scribe, notes("ada ben ada cyd"))
            waiting += await send(lanes, other, [Note("ada", 5)])
        assert [await waiting[1], await waiting[3]] == [2, 4]
        for number in range(6, 16):
            assert await lanes.run(scribe, "ben", Note("ben", number)) == number
        waiting += await send(lanes, scribe, [Note("ada", 16)])
        ada = [waiting[place] for place in (0, 2, 4, 5)]
        assert not any(handler.done() for handler in ada)
        holder.commit()
        assert await outcomes(ada) == [1, 3, 5, 16]

    scribe, other = Scribe(before=lock_rows), Scribe("other", before=lock_rows)
    with running(database_url, **SHORT) as (lanes, _), holding_state(db, "ada", LINUCB) as holder:
        asyncio.run(crowd(lanes, holder))
    done = written(db)
    assert sorted(note.number for transaction in done for note in transaction) == list(range(1, 17))
    ada = [[note.number for note in transaction] for transaction in done if transaction[0].user_id == "ada"]
    # Set aside together, they stay together.
    assert ada == [[1, 3], [5], [16]]


@pytest.mark.usefixtures("ada_and_ben")
def test_a_row_that_stays_locked_is_told_after_a_while(database_url: str, db: Engine) -> None:
    """After OO_ML_LOCK_TIMEOUT and not before; nothing of it is ever done, and the user's next call is well again."""

    async def both(lanes: Lanes, holder: Connection) -> None:
        began = time.monotonic()
        told = await together(lanes, scribe, [Note("ada", 1), Note("ben", 2), Note("ada", 3)])
        took = time.monotonic() - began
        assert [type(told[0]), told[1], type(told[2])] == [RowLockedError, 2, RowLockedError]
        assert 0.4 <= took < 10
        holder.commit()
        assert await lanes.run(scribe, "ada", Note("ada", 4)) == 4

    scribe = Scribe(before=lock_rows)
    with (
        running(database_url, **SHORT, lock_timeout=0.4) as (lanes, _),
        holding_state(db, "ada", LINUCB) as holder,
    ):
        asyncio.run(both(lanes, holder))
    assert written(db) == [[Note("ben", 2)], [Note("ada", 4)]]


@pytest.mark.usefixtures("ada_and_ben")
def test_a_lane_waits_only_a_moment_for_a_row(database_url: str, db: Engine) -> None:
    """A batch OO_ML_LANE_LOCK_TIMEOUT, each command alone a tenth of it; afterwards the usual limit holds again."""
    limits: list[tuple[int, str]] = []

    def note_limit(connection: Connection, commands: Sequence[Note]) -> None:
        limits.append((len(commands), connection.scalars(text("SHOW lock_timeout")).one()))
        lock_rows(connection, commands)

    async def both(lanes: Lanes, holder: Connection) -> None:
        async with busy(lanes):
            ada, ben = await send(lanes, scribe, notes("ada ben"))
        await ben
        holder.commit()
        await ada
        await lanes.run(scribe, "ada", Note("ada", 3))

    scribe = Scribe(before=note_limit)
    with running(database_url, **SHORT) as (lanes, _), holding_state(db, "ada", LINUCB) as holder:
        asyncio.run(both(lanes, holder))
    assert limits[:3] == [(2, "50ms"), (1, "5ms"), (1, "5ms")]
    assert limits[-1] == (1, "50ms")


@pytest.mark.usefixtures("ada_and_ben")
def test_a_lane_looks_longer_only_while_nobody_else_waits(database_url: str, db: Engine) -> None:
    """Two rows are held: each look is short for the sake of whoever waits for the other; the last may take its time."""
    looks: list[tuple[str, str]] = []

    def note_look(connection: Connection, commands: Sequence[Note]) -> None:
        users = " ".join(note.user_id for note in commands)
        looks.append((users, connection.scalars(text("SHOW lock_timeout")).one()))
        lock_rows(connection, commands)

    async def both(lanes: Lanes, holder: Connection, other: Connection) -> None:
        told = asyncio.create_task(together(lanes, scribe, notes("ada ben")))
        await asyncio.to_thread(until, lambda: len(looks) >= 7)
        holder.commit()
        await asyncio.to_thread(until, lambda: ("ben", "50ms") in looks)
        other.commit()
        assert await told == [1, 2]

    scribe = Scribe(before=note_look)
    with (
        running(database_url, **SHORT) as (lanes, _),
        holding_state(db, "ada", LINUCB) as holder,
        holding_state(db, "ben", LINUCB) as other,
    ):
        asyncio.run(both(lanes, holder, other))
    assert looks[0] == ("ada ben", "50ms")
    assert {limit for _, limit in looks[1:7]} == {"5ms"}


@pytest.mark.usefixtures("ada_and_ben")
def test_a_locked_neighbour_of_poison_has_the_time_that_it_would_have_alone(database_url: str, db: Engine) -> None:
    """The batch failed for another reason: nobody in it has waited for a row so far."""

    def choke(connection: Connection, commands: Sequence[Note]) -> None:
        if commands[0].user_id == "cyd":
            raise ValueError
        lock_rows(connection, commands)

    async def both(lanes: Lanes, holder: Connection) -> list[Any]:
        async with busy(lanes):
            handlers = await send(lanes, scribe, notes("cyd ada ben"))
        assert await handlers[2] == 3
        assert not handlers[1].done()
        holder.commit()
        return await outcomes(handlers[:2])

    scribe = Scribe(before=choke)
    with running(database_url, **SHORT) as (lanes, _), holding_state(db, "ada", LINUCB) as holder:
        poison, ada = asyncio.run(both(lanes, holder))
    assert isinstance(poison, ValueError)
    assert ada == 2
    assert written(db) == [[Note("ben", 3)], [Note("ada", 2)]]


@pytest.mark.usefixtures("ada_and_ben")
def test_a_row_that_others_take_turns_on_is_had_in_turn(database_url: str, db: Engine) -> None:
    """Three other processes hold the row for less than a lane waits; together they always hold it."""
    over = threading.Event()

    def hold() -> None:
        with db.connect() as connection:
            while not over.is_set():
                lock_rows(connection, notes("ada"))
                time.sleep(0.02)
                connection.commit()

    async def three(lanes: Lanes) -> list[int]:
        return [await lanes.run(scribe, "ada", note) for note in notes("ada ada ada")]

    scribe = Scribe(before=lock_rows)
    with ThreadPoolExecutor(3) as others, running(database_url, **SHORT, lock_timeout=1) as (lanes, _):
        for _ in range(3):
            others.submit(hold)
        try:
            assert asyncio.run(three(lanes)) == [1, 2, 3]
        finally:
            over.set()


# Lost connections


def terminate(connection: Connection, _: object) -> None:
    """What a scribe does first: have its own connection ended."""
    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


@pytest.mark.usefixtures("db")
def test_a_connection_that_is_lost_is_told_to_each_and_nothing_is_run_again(database_url: str, db: Engine) -> None:
    """In the middle of a transaction: nobody may assume what became of it."""
    scribe = Scribe(before=terminate)
    with running(database_url) as (lanes, _):
        told = asyncio.run(together(lanes, scribe, FIVE))
        assert [type(one) for one in told] == [DatabaseUnavailableError] * 5
        assert scribe.calls == [FIVE]
        # And the lane has a new one.
        assert asyncio.run(together(lanes, Scribe(), FIVE)) == [1, 2, 3, 4, 5]
    assert written(db) == [FIVE]


@contextmanager
def dropped_at_commit(own: Engine, proxy: Proxy) -> Iterator[None]:
    """Let connections go down just before COMMIT is sent."""

    def drop(_: Connection) -> None:
        proxy.drop()

    event.listen(own, "commit", drop)
    try:
        yield
    finally:
        event.remove(own, "commit", drop)


@pytest.mark.parametrize("goes_through", [False, True])
def test_a_connection_that_is_lost_at_commit_is_not_run_again(
    database_url: str, db: Engine, goes_through: bool
) -> None:
    """COMMIT has gone through or not, and nobody hears of it: all are told so, and there is no second time."""
    scribe = Scribe()
    with proxied(database_url) as (proxy, url), running(url) as (lanes, own):
        with commits_lost(own) if goes_through else dropped_at_commit(own, proxy):
            told = asyncio.run(together(lanes, scribe, FIVE))
        assert [type(one) for one in told] == [DatabaseUnavailableError] * 5
        assert scribe.calls == [FIVE]
        assert asyncio.run(together(lanes, scribe, notes("ada"))) == [1]
    assert written(db) == [*([FIVE] if goes_through else []), notes("ada")]


# Aborts


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
@pytest.mark.parametrize("place", [1, 2], ids=["statement", "commit"])
def test_a_batch_that_is_aborted_for_another_is_run_again_as_a_whole(
    database_url: str, db: Engine, sqlstate: str, place: int
) -> None:
    """At its statement or at its COMMIT, three times: at the fourth all of it is done, once."""
    aborts.prepare(db)
    scribe = Scribe()

    async def five(lanes: Lanes, own: Engine) -> list[Any]:
        async with busy(lanes) as gate:
            handlers = await send(lanes, scribe, FIVE)
            # The gate's transaction has begun already: it is no try.
            with aborted(own, sqlstate, lambda step: 1 <= step.tries <= 3 and step.of_try == place):
                gate.opened.set()
                return await outcomes(handlers)

    with running(database_url) as (lanes, own):
        assert asyncio.run(five(lanes, own)) == [1, 2, 3, 4, 5]
    assert scribe.calls == [FIVE] * 4
    assert written(db) == [FIVE]


def test_a_batch_that_is_always_aborted_is_taken_apart(database_url: str, db: Engine) -> None:
    """Whoever is not to blame gets through alone; whoever is fails with nothing of it done."""

    def abort(connection: Connection, commands: Sequence[Note]) -> None:
        if FIVE[2] in commands:
            connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'aborted' USING ERRCODE = '40001'; END $$"))

    scribe = Scribe(before=abort)
    with running(database_url) as (lanes, _):
        told = asyncio.run(together(lanes, scribe, FIVE))
    assert type(told[2]) is DatabaseTimeoutError
    assert [one for one in told if one is not told[2]] == [1, 2, 4, 5]
    assert written(db) == [[FIVE[0]], [FIVE[1]], [FIVE[3]], [FIVE[4]]]
