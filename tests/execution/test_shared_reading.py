"""A reading of the database that is shared by all who ask at the same time."""

import asyncio
import time

from oo_ml.errors import DatabaseUnavailableError
from oo_ml.execution.shared_reading import SharedReading
from tests.waiting import PATIENCE


class _Source:
    """A source whose readings end when the test says so; each gives its number, or fails."""

    def __init__(self, *failures: int) -> None:
        self.failures = failures
        self.begun = 0
        self.go = asyncio.Event()

    async def read(self) -> int:
        self.begun += 1
        number = self.begun
        await self.go.wait()
        if number in self.failures:
            raise DatabaseUnavailableError
        return number


def test_one_reading_for_many() -> None:
    """A thousand who ask wait for one reading, and those who come meanwhile for one more."""

    async def run() -> tuple[list[int], list[int], int]:
        source = _Source()
        shared = SharedReading(source.read)
        first = [asyncio.create_task(shared.since(time.monotonic())) for _ in range(1000)]
        while not source.begun:  # noqa: ASYNC110 - it counts turns of the loop
            await asyncio.sleep(0)
        later = [asyncio.create_task(shared.since(time.monotonic())) for _ in range(1000)]
        await asyncio.sleep(0)
        source.go.set()
        return await asyncio.gather(*first), await asyncio.gather(*later), source.begun

    assert asyncio.run(run()) == ([1] * 1000, [2] * 1000, 2)


def test_old_results_that_are_good_enough() -> None:
    """A caller that asks for a result since an earlier time gets the latest one, without another reading."""

    async def run() -> list[int]:
        source = _Source()
        source.go.set()
        shared = SharedReading(source.read)
        asked_at = time.monotonic()
        return [await shared.since(asked_at), await shared.since(asked_at), await shared.since(time.monotonic())]

    assert asyncio.run(run()) == [1, 1, 2]


def test_refresh() -> None:
    """A refresh of an old result begins one reading, and no caller waits for it; its failure leaves the result."""

    async def run() -> tuple[list[int], list[int]]:
        source = _Source(2)
        source.go.set()
        shared = SharedReading(source.read)
        asked_at = time.monotonic()
        found, begun = [await shared.since(asked_at)], []
        shared.refresh(asked_at)
        for _ in range(2):
            source.go.clear()
            for _ in range(10):
                shared.refresh(time.monotonic())
                found.append(await shared.since(asked_at))
                await asyncio.sleep(0)
            begun.append(source.begun)
            source.go.set()
            for _ in range(5):
                await asyncio.sleep(0)
            found.append(await shared.since(asked_at))
        return found, begun

    assert asyncio.run(run()) == ([1] * 22 + [3], [2, 3])


def test_failed_reading() -> None:
    """Each caller that waits for a reading gets its failure; the next one reads again."""

    async def run() -> tuple[list[object], int]:
        source = _Source(1)
        source.go.set()
        shared = SharedReading(source.read)
        asked_at = time.monotonic()
        tries = [asyncio.create_task(shared.since(asked_at)) for _ in range(3)]
        return list(await asyncio.gather(*tries, return_exceptions=True)), await shared.since(time.monotonic())

    failed, result = asyncio.run(run())
    assert [type(one) for one in failed] == [DatabaseUnavailableError] * 3
    assert result == 2


def test_asking_around_the_end_of_a_reading() -> None:
    """A caller that asks between the end of a reading and its callbacks reads again, and does not stop the loop."""

    async def run() -> tuple[int, int]:
        source = _Source()
        shared = SharedReading(source.read)
        first = asyncio.create_task(shared.since(time.monotonic()))
        while shared._reading is None:  # noqa: ASYNC110, SLF001 - it counts turns of the loop
            await asyncio.sleep(0)
        reading = shared._reading  # noqa: SLF001
        source.go.set()
        while not reading.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
        # The reading has ended and is not forgotten yet: not a task, which would begin a turn later.
        return await shared.since(time.monotonic()), await first

    later, first = asyncio.run(asyncio.wait_for(run(), PATIENCE))
    assert later == 2
    assert first in {1, 2}
