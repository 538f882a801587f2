"""The threads that run transactions: what was refused is never done, what was accepted is, and nothing hangs."""

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
from oo_ml.execution.pool import Workers
from oo_ml.execution.transaction import Transaction
from oo_ml.storage import states
from oo_ml.storage.postgres import engine
from oo_ml.storage.states import StateKey
from tests.conftest import make_settings
from tests.faults.proxy import proxied
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.waiting import PATIENCE

HURRIED: dict[str, Any] = {
    "lock_timeout": 0.4,
    "statement_timeout": 0.4,
    "request_timeout": 0.5,
    "database_connect_timeout": 10,
}


@contextmanager
def workers(url: str, *, threads: int = 1, **settings: Any) -> Iterator[tuple[Workers, Engine]]:  # noqa: ANN401
    """Workers of a test's own, with the engine that they use."""
    given = make_settings(**settings)
    own = engine.create(url, given, threads=threads)
    one = Workers(own, name="test", threads=threads, queue=given.database_queue, timeout=given.request_timeout)
    try:
        yield one, own
    finally:
        one.close()


def touch(connection: Connection, user_ids: Sequence[str]) -> list[None]:
    """A transaction that leaves a row for each user."""
    states.lock_or_create_states(connection, [StateKey(user_id, LINUCB) for user_id in user_ids])
    return [None] * len(user_ids)


def users(db: Engine) -> object:
    """Who has a row."""
    return scalar(db, "SELECT coalesce(array_agg(user_id ORDER BY user_id), '{}') FROM oo_ml.policy_state")


def test_what_was_refused_while_it_connected_is_never_done(database_url: str, db: Engine) -> None:
    """The caller has its 503; the connection comes afterwards, and nothing is done with it."""
    settings = make_settings(**HURRIED)
    own = engine.create(database_url, settings, threads=1)
    gate = threading.Event()

    @event.listens_for(own, "do_connect")
    def wait(*_: object) -> None:
        gate.wait()

    one = Workers(own, name="test", threads=1, queue=settings.database_queue, timeout=settings.request_timeout)
    with pytest.raises(DatabaseTimeoutError):
        asyncio.run(one.run(touch, ["ada"]))
    gate.set()
    one.close()
    assert users(db) == []


def test_what_waits_past_its_deadline_is_never_done(database_url: str, db: Engine) -> None:
    """One thread, held by the first; the second's caller has given up before it could begin."""
    gate = threading.Event()

    def hold(_: Connection, commands: Sequence[str]) -> list[None]:
        gate.wait()
        return [None] * len(commands)

    async def both(one: Workers) -> list[object]:
        try:
            return list(await asyncio.gather(one.run(hold, ["-"]), one.run(touch, ["ada"]), return_exceptions=True))
        finally:
            gate.set()

    with workers(database_url, **HURRIED) as (one, _):
        outcomes = asyncio.run(both(one))
    assert [type(outcome) for outcome in outcomes] == [DatabaseTimeoutError] * 2
    assert users(db) == []


def test_a_cut_comes_too_late_for_a_connection_that_has_gone_back(database_url: str) -> None:
    """Whoever has it now is left alone."""
    with workers(database_url) as (_, own):
        over = Transaction(time.monotonic() + 20)
        over.run(own, touch, ["ada"])
        with own.connect() as connection:
            over.cut()
            assert connection.scalars(text("SELECT 1")).one() == 1


def test_a_connection_lost_after_the_deadline_is_a_timeout(database_url: str) -> None:
    """PostgreSQL's limit for idle transactions and the deadline end together: the answer is the same either way."""
    over = Transaction(time.monotonic() + 0.2)

    def lose(connection: Connection, _: Sequence[None]) -> list[None]:
        time.sleep(max(0.0, over.deadline - time.monotonic()))
        proxy.drop()
        connection.execute(text("SELECT 1"))
        raise AssertionError("the connection is lost")

    with proxied(database_url) as (proxy, url), workers(url) as (_, own):
        # Connected beforehand: no time passes between the start of the transaction and its statement.
        own.connect().close()
        with pytest.raises(DatabaseTimeoutError):
            over.run(own, lose, [None])


def test_a_cancelled_handler_leaves_its_transaction_alone(database_url: str, db: Engine) -> None:
    """Whether it is running or still in the queue."""

    async def cancel(one: Workers) -> None:
        handlers = [asyncio.create_task(one.run(touch, [user])) for user in ("ada", "ben")]
        await asyncio.to_thread(wait_until_blocked, db, 1)
        for handler in handlers:
            handler.cancel()
        await asyncio.wait(handlers)

    with db.begin() as connection:
        touch(connection, ["ada"])
    with workers(database_url) as (one, _), holding_state(db, "ada", LINUCB):
        asyncio.run(cancel(one))
    assert users(db) == ["ada", "ben"]


def test_a_cancelled_handler_of_a_silent_database_costs_no_thread(database_url: str, db: Engine) -> None:
    """At its deadline the transaction is cut all the same, and the only thread is free for others."""
    begins = threading.Event()

    async def cancel(one: Workers) -> None:
        handler = asyncio.create_task(one.run(touch, ["ben"]))
        assert await asyncio.to_thread(begins.wait, PATIENCE)
        handler.cancel()
        await asyncio.wait([handler])
        async with asyncio.timeout(PATIENCE):
            while await failed(one.run(touch, ["cy"])) is not None:
                pass

    with proxied(database_url) as (proxy, url), workers(url, **HURRIED) as (one, own):
        asyncio.run(one.run(touch, ["ada"]))
        proxy.mute()
        # BEGIN is about to be sent, and will not be answered.
        event.listen(own, "begin", lambda _: begins.set())
        asyncio.run(cancel(one))
    assert users(db) == ["ada", "cy"]


def test_what_waits_for_a_cancelled_handler_past_its_deadline_is_never_done(database_url: str, db: Engine) -> None:
    """It leaves its place in the queue, and does not begin when a thread is free."""
    gate = threading.Event()

    def hold(_: Connection, commands: Sequence[str]) -> list[None]:
        gate.wait()
        return [None] * len(commands)

    async def cancel(one: Workers) -> None:
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

    with workers(database_url, **HURRIED, database_queue=1) as (one, _):
        asyncio.run(cancel(one))
    assert users(db) == []


async def failed(run: Coroutine[Any, Any, object]) -> UnavailableError | None:
    """Why a call was refused, if it was."""
    try:
        await run
    except UnavailableError as error:
        return error
    return None


def test_closing_does_not_wait_for_a_silent_database(database_url: str) -> None:
    """Not even for a transaction whose handler is gone, so that nobody is left to cut it."""

    async def abandon(one: Workers, mute: Callable[[], None]) -> None:
        await one.run(touch, ["ada"])
        mute()
        handler = asyncio.create_task(one.run(touch, ["ben"]))
        await asyncio.sleep(0)
        handler.cancel()
        await asyncio.wait([handler])

    with proxied(database_url) as (proxy, url):
        began = time.monotonic()
        with workers(url, **{**HURRIED, "request_timeout": 2}) as (one, _):
            asyncio.run(abandon(one, proxy.mute))
        assert time.monotonic() - began < 20


def test_a_database_that_falls_silent_after_the_login_costs_no_thread(database_url: str) -> None:
    """SQLAlchemy asks a new connection some questions of its own; a silent one is cut there, too."""
    with proxied(database_url) as (proxy, url), workers(url, **HURRIED) as (one, _):
        proxy.mute_after_login(1)
        with pytest.raises(DatabaseTimeoutError):
            asyncio.run(one.run(touch, ["ada"]))
        assert asyncio.run(one.run(touch, ["ada"])) == [None]


def test_a_cut_leaves_the_other_connections_of_the_pool(database_url: str) -> None:
    """One silent connection says nothing about the others: they are kept, not made anew."""
    together = threading.Barrier(2)

    def backend(connection: Connection, commands: Sequence[str]) -> list[int]:
        return [connection.scalars(text("SELECT pg_backend_pid()")).one() for _ in commands]

    async def two(one: Workers) -> list[list[int] | BaseException]:
        return list(await asyncio.gather(one.run(backend, ["-"]), one.run(backend, ["-"]), return_exceptions=True))

    settings = {**HURRIED, "statement_timeout": 2, "request_timeout": 2}
    with proxied(database_url) as (proxy, url), workers(url, threads=2, **settings) as (one, own):
        # Each has a connection before either sends BEGIN.
        event.listen(own, "begin", lambda _: together.wait(PATIENCE))
        before = asyncio.run(two(one))
        proxy.mute(1)
        meanwhile = asyncio.run(two(one))
        after = asyncio.run(two(one))
    [kept] = [outcome for outcome in meanwhile if isinstance(outcome, list)]
    assert kept in before
    assert kept in after
