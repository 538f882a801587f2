"""The policies that a process decides by: which calls wait for the registry."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Final

import pytest
from sqlalchemy import Engine, text

from oo_ml.execution import shared_reading
from oo_ml.execution.pool import Pool
from oo_ml.services.policies import catalogue
from oo_ml.services.policies.catalogue import PolicyCatalogue
from oo_ml.storage.postgres import engine
from oo_ml.storage.postgres.sessions import Reading, Writing
from tests.conftest import make_settings
from tests.gates import count_blocked, wait_until_blocked
from tests.services.policies.readers import publish_policy
from tests.superuser import superuser
from tests.waiting import PATIENCE

NEWS: Final = "news-v1"
MAX_AGE: Final = 10_000.0


class Clock:
    """A clock that stands until the test moves it."""

    now = 0.0

    def monotonic(self) -> float:
        """Return the time, a little later with each look."""
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which readings of the registry grow old."""
    one = Clock()
    for module in (catalogue, shared_reading):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=one.monotonic))
    return one


@contextmanager
def reading(url: str, *, timeout: float) -> Iterator[PolicyCatalogue]:
    """Yield a catalogue whose readings may take `timeout` seconds."""
    settings = make_settings(statement_timeout=timeout, lock_timeout=timeout, request_timeout=timeout)
    source = engine.create(url, settings, threads=2, read_only=True)
    with closing(Pool[Reading](source, name="reader", threads=2, queue=10, timeout=timeout)) as readers:
        yield PolicyCatalogue(readers, {}, max_age=MAX_AGE)


@contextmanager
def locking(db: Engine) -> Iterator[Writing]:
    """Keep all others from reading the registry, in which the policy is retired, until the block ends."""
    with superuser(db) as connection:
        connection.execute(text("LOCK TABLE oo_ml.policies"))
        connection.execute(
            text("UPDATE oo_ml.policies SET status = 'retired', retired_at = now() WHERE policy = :policy"),
            {"policy": NEWS},
        )
        yield connection  # type: ignore[misc]


def test_calls_while_the_registry_is_read(db: Engine, service_url: str, clock: Clock) -> None:
    """From half of the age on one reading is under way, and no call waits for it; past the age calls wait."""

    async def run(policies: PolicyCatalogue) -> tuple[set[bool], int, bool, bool]:
        await policies.find(NEWS)
        with locking(db):
            clock.now += 0.4 * MAX_AGE
            await policies.find(NEWS)
            before = await asyncio.to_thread(count_blocked, db)
            clock.now += 0.2 * MAX_AGE
            early = {(await asyncio.wait_for(policies.find(NEWS), PATIENCE)).is_retired for _ in range(100)}
            await asyncio.to_thread(wait_until_blocked, db, 1)
            clock.now += 0.5 * MAX_AGE
            waiting = [asyncio.create_task(policies.find(NEWS)) for _ in range(100)]
            for _ in range(10):
                await asyncio.sleep(0)
            has_waited = not any(one.done() for one in waiting)
        late = {one.is_retired for one in await asyncio.gather(*waiting)}
        return early, before, has_waited, late == {True}

    publish_policy(db, NEWS)
    with reading(service_url, timeout=4 * PATIENCE) as policies:
        assert asyncio.run(run(policies)) == ({False}, 0, True, True)


def test_registry_that_cannot_be_read(
    db: Engine, service_url: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """While the registry can't be read calls are served by the last reading, and the log says so once."""

    async def run(policies: PolicyCatalogue) -> list[bool]:
        found = [await policies.find(NEWS)]
        with locking(db):
            for _ in range(3):
                clock.now += 2 * MAX_AGE
                found.append(await policies.find(NEWS))
        found.append(await policies.find(NEWS))
        return [one.is_retired for one in found]

    publish_policy(db, NEWS)
    with reading(service_url, timeout=0.2) as policies:
        assert asyncio.run(run(policies)) == [False, False, False, False, True]
    told = [record.message for record in caplog.records if "the policies can't be read" in record.message]
    assert len(told) == 1
