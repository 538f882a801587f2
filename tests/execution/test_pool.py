"""The pool of threads that run transactions: deadlines, cancelled handlers, closing, silent servers."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from oo_ml.domain.policies import LINUCB
from oo_ml.errors import DatabaseTimeoutError, OverloadedError, UnavailableError
from oo_ml.execution import retry
from oo_ml.execution.pool import Pool
from oo_ml.storage import policy_state
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.postgres import engine
from oo_ml.storage.postgres.sessions import Writing
from tests.conftest import make_settings
from tests.faults.proxy import run_proxy
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.policies import FRESH
from tests.sessions import open_session, writing
from tests.waiting import PATIENCE, until

HURRIED: dict[str, Any] = {
    "lock_timeout": 0.4,
    "statement_timeout": 0.4,
    "request_timeout": 0.5,
    "database_connect_timeout": 10,
}
# For calls that must have begun before their deadline: on a busy machine this may take long.
LESS_HURRIED: dict[str, Any] = {**HURRIED, "statement_timeout": 3, "request_timeout": 3}


@contextmanager
def pool(url: str, *, threads: int = 1, **settings: Any) -> Iterator[tuple[Pool[Writing], Engine]]:  # noqa: ANN401
    """Yield a pool for one test, and its engine; close it at the end."""
    given = make_settings(**settings)
    own = engine.create(url, given, threads=threads)
    one = Pool[Writing](own, name="test", threads=threads, queue=given.database_queue, timeout=given.request_timeout)
    try:
        yield one, own
    finally:
        one.close()


def touch(connection: Writing, user_ids: Sequence[str]) -> list[None]:
    """Create the row of each user."""
    policy_state.lock_or_create_states(connection, {StateKey(user_id, LINUCB): FRESH[LINUCB] for user_id in user_ids})
    return [None] * len(user_ids)


def backend(connection: Connection, commands: Sequence[None]) -> list[int]:
    """Return the process that serves the connection."""
    return [connection.scalars(text("SELECT pg_backend_pid()")).one() for _ in commands]


def users(db: Engine) -> object:
    """Return the users who have a row."""
    return scalar(db, "SELECT coalesce(array_agg(user_id ORDER BY user_id), '{}') FROM oo_ml.policy_state")


def test_deadline_while_connecting(database_url: str, db: Engine) -> None:
    """A call whose deadline passes while it connects is never run, although the connection succeeds afterwards."""
    settings = make_settings(**HURRIED)
    own = engine.create(database_url, settings, threads=1)
    gate = threading.Event()

    @event.listens_for(own, "do_connect")
    def wait(*_: object) -> None:
        gate.wait()

    one = Pool[Writing](own, name="test", threads=1, queue=settings.database_queue, timeout=settings.request_timeout)
    with pytest.raises(DatabaseTimeoutError):
        asyncio.run(one.run(touch, ["ada"]))
    gate.set()
    one.close()
    assert users(db) == []


def test_calls_past_their_deadline_never_begin(database_url: str, db: Engine) -> None:
    """A call that waits in the queue past its deadline is never run."""
    gate = threading.Event()

    def hold(_: Connection, commands: Sequence[str]) -> list[None]:
        gate.wait()
        return [None] * len(commands)

    async def both(one: Pool[Writing]) -> list[object]:
        try:
            return list(await asyncio.gather(one.run(hold, ["-"]), one.run(touch, ["ada"]), return_exceptions=True))
        finally:
            gate.set()

    with pool(database_url, **HURRIED) as (one, _):
        outcomes = asyncio.run(both(one))
    assert [type(outcome) for outcome in outcomes] == [DatabaseTimeoutError] * 2
    assert users(db) == []


def test_cut_after_commit(database_url: str) -> None:
    """The end of a transaction's time after COMMIT does not affect its connection, which is back in the pool."""
    cut = threading.Event()
    with pool(database_url) as (_, own):
        [before] = retry.run(own, backend, [None], time.monotonic() + PATIENCE, cut)
        cut.set()
        with open_session(own) as connection:
            assert backend(connection, [None]) == [before]


def test_connection_lost_after_the_deadline(database_url: str) -> None:
    """PostgreSQL's limit for idle transactions and the deadline end together: the error is the same either way."""

    def lose(connection: Connection, _: Sequence[None]) -> list[None]:
        until(lambda: time.monotonic() > deadline)
        proxy.drop()
        connection.execute(text("SELECT 1"))
        raise AssertionError("the connection is lost")

    with run_proxy(database_url) as (proxy, url):
        # Without a pool that limits its waits: the connection itself is lost.
        own = engine.create(url, make_settings(), threads=1)
        own.connect().close()
        deadline = time.monotonic() + 0.2
        with pytest.raises(DatabaseTimeoutError):
            retry.run(own, lose, [None], deadline)
        own.dispose()


def test_trickling_result(database_url: str) -> None:
    """A server that sends a row now and then, for hours, keeps its thread no longer than a silent one."""

    def trickle(connection: Connection, _: Sequence[None]) -> list[None]:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_sleep(0.02), repeat('x', 10000) FROM generate_series(1, 1000000)"))
        raise AssertionError("the result never ends")

    with pool(database_url, **HURRIED) as (one, _):
        with pytest.raises(DatabaseTimeoutError):
            asyncio.run(one.run(trickle, [None]))
        asyncio.run(recover(one))


def test_cancelled_handlers(database_url: str, db: Engine) -> None:
    """A call whose handler is cancelled, queued or under way, is run all the same."""

    async def cancel(one: Pool[Writing]) -> None:
        handlers = [asyncio.create_task(one.run(touch, [user])) for user in ("ada", "ben")]
        await asyncio.to_thread(wait_until_blocked, db, 1)
        for handler in handlers:
            handler.cancel()
        await asyncio.wait(handlers)

    with writing(db) as connection:
        touch(connection, ["ada"])
    with pool(database_url) as (one, _), holding_state(db, "ada", LINUCB):
        asyncio.run(cancel(one))
    assert users(db) == ["ada", "ben"]


def test_cancelled_handler_of_a_silent_server(database_url: str, db: Engine) -> None:
    """The transaction of a cancelled handler ends at its deadline all the same, and its thread serves other calls."""
    begins = threading.Event()

    async def cancel(one: Pool[Writing]) -> None:
        handler = asyncio.create_task(one.run(touch, ["ben"]))
        assert await asyncio.to_thread(begins.wait, PATIENCE)
        handler.cancel()
        await asyncio.wait([handler])
        await recover(one)

    with run_proxy(database_url) as (proxy, url), pool(url, **LESS_HURRIED) as (one, own):
        asyncio.run(recover(one))
        proxy.mute()
        # BEGIN is about to be sent, and will not be answered.
        event.listen(own, "begin", lambda _: begins.set())
        asyncio.run(cancel(one))
    assert users(db) == ["cyd"]


def test_late_calls_leave_the_queue(database_url: str, db: Engine) -> None:
    """A queued call of a cancelled handler gives up its place at its deadline, and is never run."""
    gate = threading.Event()

    def hold(_: Connection, commands: Sequence[str]) -> list[None]:
        gate.wait()
        return [None] * len(commands)

    async def cancel(one: Pool[Writing]) -> None:
        handlers = [asyncio.create_task(one.run(hold, ["-"])), asyncio.create_task(one.run(touch, ["ben"]))]
        await asyncio.sleep(0)
        handlers[1].cancel()
        await asyncio.wait([handlers[1]])
        try:
            assert isinstance(await failed(one.run(touch, ["cy"])), OverloadedError)
            async with asyncio.timeout(PATIENCE):
                while isinstance(await failed(one.run(touch, ["cy"])), OverloadedError):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0)
        finally:
            gate.set()
        await asyncio.wait(handlers)

    with pool(database_url, **LESS_HURRIED, database_queue=1) as (one, _):
        asyncio.run(cancel(one))
    assert users(db) == []


async def recover(one: Pool[Writing]) -> None:
    """Call until a call succeeds: a new connection may take longer than one call's deadline."""
    async with asyncio.timeout(PATIENCE):
        while await failed(one.run(touch, ["cyd"])) is not None:
            pass


async def failed(run: Coroutine[Any, Any, object]) -> UnavailableError | None:
    """Return the error of a call, if it failed."""
    try:
        await run
    except UnavailableError as error:
        return error
    return None


def test_close_within_a_limit(database_url: str) -> None:
    """After its limit, close ends a transaction on a silent server, although its deadline is far away."""

    async def abandon(one: Pool[Writing], mute: Callable[[], None]) -> None:
        await one.run(touch, ["ada"])
        mute()
        handler = asyncio.create_task(one.run(touch, ["ben"]))
        await asyncio.sleep(0)
        handler.cancel()
        await asyncio.wait([handler])

    with run_proxy(database_url) as (proxy, url), pool(url, request_timeout=PATIENCE) as (one, _):
        asyncio.run(abandon(one, proxy.mute))
        began = time.monotonic()
        one.close(0.2)
        assert time.monotonic() - began < PATIENCE / 2


def test_silent_server_after_login(database_url: str) -> None:
    """The deadline also ends SQLAlchemy's own questions to a new connection."""
    with run_proxy(database_url) as (proxy, url), pool(url, **HURRIED) as (one, _):
        proxy.mute_after_login(1)
        with pytest.raises(DatabaseTimeoutError):
            asyncio.run(one.run(touch, ["ada"]))
        asyncio.run(recover(one))


def test_other_connections_are_kept(database_url: str) -> None:
    """Closing a silent connection does not close the other connections of the pool."""
    together = threading.Barrier(2)

    async def two(one: Pool[Writing]) -> list[list[int] | BaseException]:
        return list(await asyncio.gather(one.run(backend, [None]), one.run(backend, [None]), return_exceptions=True))

    with run_proxy(database_url) as (proxy, url), pool(url, threads=2, **LESS_HURRIED) as (one, own):
        # Each has a connection before either sends BEGIN.
        event.listen(own, "begin", lambda _: together.wait(PATIENCE))
        before = asyncio.run(two(one))
        proxy.mute(1)
        meanwhile = asyncio.run(two(one))
        after = asyncio.run(two(one))
    [kept] = [outcome for outcome in meanwhile if isinstance(outcome, list)]
    assert kept in before
    assert kept in after
