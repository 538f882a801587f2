"""The meter of lanes and pools: waiting, batch size, transactions, retries and outcomes, each told once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text

from oo_ml.errors import OverloadedError, UnexpectedError
from oo_ml.execution.lanes import Lanes, Limits
from oo_ml.execution.meter import Meter, Usage
from oo_ml.execution.pool import Pool
from oo_ml.storage.postgres import engine
from oo_ml.storage.postgres.sessions import Writing
from tests.conftest import make_settings
from tests.execution.notes import Gate, busy, wait_for


@dataclass(slots=True)
class Told:
    """Record of the calls of a meter."""

    waited: list[float] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    retried: int = 0
    committed: list[Sequence[object]] = field(default_factory=list)

    def meter(self) -> Meter:
        """Return the meter."""
        return Meter(self.waited.append, self.shared.append, self.ended.append, self._retry, self.committed.append)

    def _retry(self) -> None:
        self.retried += 1


@pytest.fixture
def told() -> Told:
    """An empty record."""
    return Told()


def lanes(url: str, told: Told) -> Lanes:
    """Return one lane with this meter."""
    given = make_settings()
    limits = Limits(batch=64, queue=3, timeout=given.request_timeout, lock_timeout=20, lane_lock_timeout=20)
    return Lanes(engine.create(url, given, threads=1, lanes=True), 1, limits, told.meter())


def answer(connection: Writing, commands: Sequence[str]) -> list[str]:
    """Return the commands."""
    connection.execute(text("SELECT 1"))
    return list(commands)


def abort_twice(connection: Writing, commands: Sequence[list[None]]) -> list[str]:
    """Abort the first two tries, as PostgreSQL does in favour of another transaction."""
    [tries] = commands
    tries.append(None)
    if len(tries) < 3:
        connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'aborted' USING ERRCODE = '40001'; END $$"))
    return ["done"]


def fail(connection: Writing, _: Sequence[Any]) -> list[Any]:
    """Send a statement that PostgreSQL refuses."""
    connection.execute(text("SELECT 1 / 0"))
    raise AssertionError("the statement fails")


def test_lane(database_url: str, told: Told) -> None:
    """Commands that shared a transaction are told as one batch with its outcomes, and each one's wait."""

    async def run(some: Lanes) -> None:
        async with busy(some):
            queued = [asyncio.create_task(some.run(answer, "ada", name)) for name in "abc"]
            await asyncio.sleep(0)
            assert some.usage() == Usage(queued=3, in_use=1, idle=0, limit=1)
            with pytest.raises(OverloadedError):
                await some.run(answer, "ada", "d")
        assert await asyncio.gather(*queued) == ["a", "b", "c"]
        assert some.usage() == Usage(queued=0, in_use=0, idle=1, limit=1)

    some = lanes(database_url, told)
    asyncio.run(run(some))
    some.close()
    assert told.shared == [1, 3]
    assert told.committed == [[None], ["a", "b", "c"]]
    assert len(told.ended) == 2
    assert len(told.waited) == 4
    assert min(told.waited) >= 0
    assert told.retried == 0


def test_retries(database_url: str, told: Told) -> None:
    """Each try is a transaction, and only the last one has outcomes."""
    some = lanes(database_url, told)
    assert asyncio.run(some.run(abort_twice, "ada", list[None]())) == "done"
    some.close()
    assert (told.retried, len(told.ended), told.committed) == (2, 3, [["done"]])
    assert (told.shared, len(told.waited)) == ([1], 1)


def test_failure(database_url: str, told: Told) -> None:
    """A transaction that fails is told with its time, and has no outcomes."""
    some = lanes(database_url, told)
    with pytest.raises(UnexpectedError):
        asyncio.run(some.run(fail, "ada", None))
    some.close()
    assert (len(told.ended), told.committed, told.shared) == (1, [], [1])


def test_pool(database_url: str, told: Told) -> None:
    """A pool tells the same of its calls; its queue has those that wait for a thread."""

    async def run(pool: Pool[Writing]) -> None:
        gate = Gate()
        first = asyncio.create_task(pool.run(gate, [None]))
        await wait_for(gate.began)
        second = asyncio.create_task(pool.run(answer, ["a", "b"]))
        await asyncio.sleep(0)
        assert pool.usage() == Usage(queued=1, in_use=1, idle=0, limit=1)
        gate.opened.set()
        assert await first == [None]
        assert await second == ["a", "b"]

    given = make_settings()
    source = engine.create(database_url, given, threads=1)
    pool = Pool[Writing](source, name="test", threads=1, queue=1, timeout=given.request_timeout, meter=told.meter())
    asyncio.run(run(pool))
    pool.close()
    assert (told.shared, told.committed) == ([1, 2], [[None], ["a", "b"]])
    assert (len(told.waited), len(told.ended)) == (2, 2)


def no_place(*_: object) -> None:
    """Fail, as a meter that has no place for its numbers."""
    raise OSError("no space left on device")


def test_meter_that_fails(service_url: str) -> None:
    """If its meter fails, each command of a lane still runs once and gets its outcome, and the lane goes on."""
    given = make_settings()
    limits = Limits(batch=64, queue=3, timeout=given.request_timeout, lock_timeout=20, lane_lock_timeout=20)
    broken = Meter(no_place, no_place, no_place, no_place, no_place)
    ran: list[str] = []

    def note(connection: Writing, commands: Sequence[str]) -> list[str]:
        ran.extend(commands)
        return answer(connection, commands)

    async def run() -> list[str]:
        one = Lanes(engine.create(service_url, given, threads=1, lanes=True), 1, limits, broken)
        try:
            first = await asyncio.gather(*(one.run(note, f"user-{number}", f"{number}") for number in range(3)))
            return [*first, await one.run(note, "ada", "3")]
        finally:
            one.close()

    assert asyncio.run(run()) == ["0", "1", "2", "3"]
    assert sorted(ran) == ["0", "1", "2", "3"]
