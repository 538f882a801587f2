"""Failures in a lane: an exception, a locked row, a lost connection or an abort affects its own command only."""

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
from oo_ml.storage import policy_state
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.postgres.sessions import Writing
from tests import calls
from tests.conftest import Serve
from tests.execution.notes import (
    FORBIDDEN,
    Note,
    Scribe,
    busy,
    notes,
    outcomes,
    read_written,
    running,
    send,
    send_together,
)
from tests.faults import aborts
from tests.faults.aborts import abort_steps, lose_commits
from tests.faults.proxy import Proxy, run_proxy
from tests.gates import holding_state
from tests.policies import FRESH
from tests.sessions import open_session, writing
from tests.waiting import PATIENCE, until

# A lane waits for a row much shorter than a command may.
SHORT: dict[str, Any] = {"lane_lock_timeout": 0.05}
FIVE = notes("ada ben cyd ben dora")


pytestmark = pytest.mark.usefixtures("paper")


def lock_rows(connection: Writing, commands: Sequence[Note]) -> None:
    """Lock the row of each user, as the services do."""
    policy_state.lock_or_create_states(connection, {StateKey(note.user_id, LINUCB): FRESH[LINUCB] for note in commands})


@pytest.fixture
def ada_and_ben(db: Engine) -> None:
    """Create the rows of two users."""
    with writing(db) as connection:
        lock_rows(connection, notes("ada ben"))


# Exceptions


def test_exception_of_a_service(database_url: str, db: Engine) -> None:
    """A command for which the service raises fails alone: its caller gets the exception, the others are run once."""

    def choke(_: Connection, commands: Sequence[Note]) -> None:
        if FIVE[2] in commands:
            raise ValueError("broken")

    scribe = Scribe(before=choke)
    with running(database_url) as (lanes, _):
        told = asyncio.run(send_together(lanes, scribe, FIVE))
    assert isinstance(told[2], ValueError)
    assert [one for one in told if one is not told[2]] == [1, 2, 4, 5]
    assert read_written(db) == [[FIVE[0]], [FIVE[1]], [FIVE[3]], [FIVE[4]]]
    assert scribe.calls == [FIVE, *([note] for note in FIVE)]


def test_row_refused_by_the_database(database_url: str, db: Engine) -> None:
    """A command whose row violates a constraint fails alone."""
    five = [*FIVE[:2], Note("cyd", FORBIDDEN), *FIVE[3:]]
    with running(database_url) as (lanes, _):
        told = asyncio.run(send_together(lanes, Scribe(), five))
    assert isinstance(told[2], UnexpectedError)
    assert [one for one in told if one is not told[2]] == [1, 2, 4, 5]
    assert read_written(db) == [[note] for note in five if note.number != FORBIDDEN]


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("another"), ArithmeticError()])
def test_lane_survives_an_exception(database_url: str, db: Engine, error: Exception) -> None:
    """The caller gets the very exception, and the lane serves the next command."""

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
    assert read_written(db) == [[Note("ben", 2)]]


def test_exception_is_a_500(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response says nothing about the exception, and the next call is served."""

    def broken(_: Connection, commands: Sequence[object]) -> list[None]:
        raise RuntimeError(commands)

    service = serve(lanes=1)
    with monkeypatch.context() as patched:
        patched.setattr("oo_ml.api.decisions.endpoints.learn", broken)
        answer = service.client.post("/reward", json=calls.reward())
    assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
    assert service.client.post("/reward", json=calls.reward()).status_code == 200


def test_stop_iteration_of_a_service(database_url: str) -> None:
    """A service that raises StopIteration, which no future accepts, fails like one that raises anything else."""

    def exhausted(_: Connection, commands: Sequence[Note]) -> list[int]:
        return [next(iter(())) for _ in commands]

    async def one(lanes: Lanes) -> None:
        async with asyncio.timeout(PATIENCE):
            await lanes.run(exhausted, "ada", Note("ada", 1))

    with running(database_url) as (lanes, _), pytest.raises((RuntimeError, TypeError, StopIteration, UnexpectedError)):
        asyncio.run(one(lanes))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_missing_outcome(database_url: str, db: Engine) -> None:
    """A service that returns too few outcomes is rolled back, its caller gets an error, and the lane goes on."""

    def forget(connection: Writing, commands: Sequence[Note]) -> list[int]:
        return scribe(connection, commands)[:-1]

    async def both(lanes: Lanes) -> None:
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((ValueError, UnexpectedError)):
                await lanes.run(forget, "ada", Note("ada", 1))
            assert await lanes.run(scribe, "ada", Note("ada", 2)) == 2

    scribe = Scribe()
    with running(database_url) as (lanes, _):
        asyncio.run(both(lanes))
    assert read_written(db) == [[Note("ada", 2)]]


# Locked rows


@pytest.mark.usefixtures("ada_and_ben")
def test_locked_row_delays_only_its_user(database_url: str, db: Engine) -> None:
    """If another session locks a user's row, only that user's commands wait; once it is released they run in order."""

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
    done = read_written(db)
    assert sorted(note.number for transaction in done for note in transaction) == list(range(1, 17))
    ada = [[note.number for note in transaction] for transaction in done if transaction[0].user_id == "ada"]
    # Commands that were set aside together share a transaction.
    assert ada == [[1, 3], [5], [16]]


@pytest.mark.usefixtures("ada_and_ben")
def test_lock_timeout(database_url: str, db: Engine) -> None:
    """Commands for a row that stays locked fail after OO_ML_LOCK_TIMEOUT, not before; the next command is run."""

    async def both(lanes: Lanes, holder: Connection) -> None:
        began = time.monotonic()
        told = await send_together(lanes, scribe, [Note("ada", 1), Note("ben", 2), Note("ada", 3)])
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
    assert read_written(db) == [[Note("ben", 2)], [Note("ada", 4)]]


@pytest.mark.usefixtures("ada_and_ben")
def test_lane_lock_timeout(database_url: str, db: Engine) -> None:
    """A batch waits OO_ML_LANE_LOCK_TIMEOUT for a row, a command alone a tenth of it; later ones the usual time."""
    limits: list[tuple[int, str]] = []

    def note_limit(connection: Writing, commands: Sequence[Note]) -> None:
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
def test_lock_wait_of_held_users(database_url: str, db: Engine) -> None:
    """A lane waits a tenth of the limit for a held user's row while other commands wait, else the whole limit."""
    looks: list[tuple[str, str]] = []

    def note_look(connection: Writing, commands: Sequence[Note]) -> None:
        users = " ".join(note.user_id for note in commands)
        looks.append((users, connection.scalars(text("SHOW lock_timeout")).one()))
        lock_rows(connection, commands)

    async def both(lanes: Lanes, holder: Connection, other: Connection) -> None:
        told = asyncio.create_task(send_together(lanes, scribe, notes("ada ben")))
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
def test_locked_row_beside_a_failing_command(database_url: str, db: Engine) -> None:
    """A command whose batch failed for another reason still waits OO_ML_LOCK_TIMEOUT for its row."""

    def choke(connection: Writing, commands: Sequence[Note]) -> None:
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
        broken, ada = asyncio.run(both(lanes, holder))
    assert isinstance(broken, ValueError)
    assert ada == 2
    assert read_written(db) == [[Note("ben", 3)], [Note("ada", 2)]]


@pytest.mark.usefixtures("ada_and_ben")
def test_contended_row(database_url: str, db: Engine) -> None:
    """A lane gets a row that three other sessions lock in turn, each for less time than the lane waits."""
    over = threading.Event()

    def hold() -> None:
        with open_session(db) as connection:
            while not over.is_set():
                lock_rows(connection, notes("ada"))
                time.sleep(0.02)
                connection.commit()

    async def three(lanes: Lanes) -> list[int]:
        return [await lanes.run(scribe, "ada", note) for note in notes("ada ada ada")]

    scribe = Scribe(before=lock_rows)
    with ThreadPoolExecutor(3) as others, running(database_url, lane_lock_timeout=0.3) as (lanes, _):
        for _ in range(3):
            others.submit(hold)
        try:
            assert asyncio.run(three(lanes)) == [1, 2, 3]
        finally:
            over.set()


# Lost connections


def terminate(connection: Connection, _: object) -> None:
    """End the connection of a scribe."""
    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


@pytest.mark.usefixtures("db")
def test_lost_connection(database_url: str, db: Engine) -> None:
    """If the connection is lost, every command of the transaction fails and none is retried; the lane reconnects."""
    scribe = Scribe(before=terminate)
    with running(database_url) as (lanes, _):
        told = asyncio.run(send_together(lanes, scribe, FIVE))
        assert [type(one) for one in told] == [DatabaseUnavailableError] * 5
        assert scribe.calls == [FIVE]
        # And the lane has a new connection.
        assert asyncio.run(send_together(lanes, Scribe(), FIVE)) == [1, 2, 3, 4, 5]
    assert read_written(db) == [FIVE]


@contextmanager
def drop_at_commit(own: Engine, proxy: Proxy) -> Iterator[None]:
    """Drop the connections just before COMMIT is sent."""

    def drop(_: Connection) -> None:
        proxy.drop()

    event.listen(own, "commit", drop)
    try:
        yield
    finally:
        event.remove(own, "commit", drop)


@pytest.mark.parametrize("goes_through", [False, True])
def test_connection_lost_at_commit(database_url: str, db: Engine, goes_through: bool) -> None:
    """If the connection is lost at COMMIT, whether it went through or not, all commands fail and none is retried."""
    scribe = Scribe()
    with run_proxy(database_url) as (proxy, url), running(url) as (lanes, own):
        with lose_commits(own) if goes_through else drop_at_commit(own, proxy):
            told = asyncio.run(send_together(lanes, scribe, FIVE))
        assert [type(one) for one in told] == [DatabaseUnavailableError] * 5
        assert scribe.calls == [FIVE]
        assert asyncio.run(send_together(lanes, scribe, notes("ada"))) == [1]
    assert read_written(db) == [*([FIVE] if goes_through else []), notes("ada")]


# Aborts


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
@pytest.mark.parametrize("place", [1, 2], ids=["statement", "commit"])
def test_retry_of_an_aborted_batch(database_url: str, db: Engine, sqlstate: str, place: int) -> None:
    """A batch that is aborted at a statement or at COMMIT is retried as a whole; the fourth try commits it once."""
    aborts.prepare(db)
    scribe = Scribe()

    async def five(lanes: Lanes, own: Engine) -> list[Any]:
        async with busy(lanes) as gate:
            handlers = await send(lanes, scribe, FIVE)
            # The gate's transaction has begun already and does not count as a try.
            with abort_steps(own, sqlstate, lambda step: 1 <= step.tries <= 3 and step.of_try == place):
                gate.opened.set()
                return await outcomes(handlers)

    with running(database_url) as (lanes, own):
        assert asyncio.run(five(lanes, own)) == [1, 2, 3, 4, 5]
    assert scribe.calls == [FIVE] * 4
    assert read_written(db) == [FIVE]


def test_batch_that_is_always_aborted(database_url: str, db: Engine) -> None:
    """A batch that is aborted on every try is run one by one, and only the command to blame fails."""

    def abort(connection: Connection, commands: Sequence[Note]) -> None:
        if FIVE[2] in commands:
            connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'aborted' USING ERRCODE = '40001'; END $$"))

    scribe = Scribe(before=abort)
    with running(database_url) as (lanes, _):
        told = asyncio.run(send_together(lanes, scribe, FIVE))
    assert type(told[2]) is DatabaseTimeoutError
    assert [one for one in told if one is not told[2]] == [1, 2, 4, 5]
    assert read_written(db) == [[FIVE[0]], [FIVE[1]], [FIVE[3]], [FIVE[4]]]
