"""The text of /metrics: what the processes have counted, and what this process reads for it.

No scrape waits for the database longer than OO_ML_REQUEST_TIMEOUT, and scrapes at the same time share one reading.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from oo_ml.errors import OoMlError, OverloadedError, UnavailableError
from oo_ml.execution.meter import Usage
from oo_ml.execution.pool import Pool
from oo_ml.execution.shared_reading import SharedReading
from oo_ml.metrics import declarations as declared
from oo_ml.metrics.registry import Metrics, Sample
from oo_ml.services.metrics.numbers import read_numbers
from oo_ml.settings import Settings
from oo_ml.storage.postgres.sessions import Reading

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    """Numbers of the database, and whether it could be read the last time; None: that is not known."""

    numbers: Sequence[Sample]
    is_up: bool | None


class Exposition:
    """The metrics of a process, or of all processes of `oo-ml serve` together."""

    def __init__(
        self,
        metrics: Metrics,
        settings: Settings,
        readers: Pool[Reading],
        usages: Mapping[str, Callable[[], Usage]],
    ) -> None:
        """Begin without numbers of the database.

        Args:
            metrics: the metrics of this process.
            settings: OO_ML_METRICS_MAX_AGE, and those of upkeep.
            readers: the threads that read the database.
            usages: the functions that return the use of lanes and pools, by name.
        """
        self._metrics = metrics
        self._settings = settings
        self._readers = readers
        self._usages = usages
        self._build = Sample(declared.BUILD_INFO, 1, (version("oo-ml"),))
        self._read = SharedReading(self._read_numbers)

    async def text(self) -> bytes:
        """Return the text for Prometheus. Without the database it has the numbers that were last read."""
        read = await self._read.since(time.monotonic() - self._settings.metrics_max_age)
        self._sample()
        up = [] if read.is_up is None else [Sample(declared.DATABASE_UP, read.is_up)]
        # In a thread: with several processes it parses all their files.
        return await asyncio.to_thread(self._metrics.render, [self._build, *up, *read.numbers])

    @asynccontextmanager
    async def sampled(self) -> AsyncIterator[None]:
        """Note the use of lanes and pools every OO_ML_METRICS_MAX_AGE, if other processes give the text too."""
        task = asyncio.create_task(self._sample_regularly()) if self._metrics.is_shared else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _sample_regularly(self) -> None:
        while True:
            try:
                self._sample()
            except Exception:
                logger.exception("the use of lanes and pools was not noted")
            await asyncio.sleep(self._settings.metrics_max_age)

    def _sample(self) -> None:
        for name, read in self._usages.items():
            usage = read()
            self._metrics.set(declared.LANE_QUEUED, name)(usage.queued)
            self._metrics.set(declared.POOL_CONNECTIONS, name, "in_use")(usage.in_use)
            self._metrics.set(declared.POOL_CONNECTIONS, name, "idle")(usage.idle)
            self._metrics.set(declared.POOL_LIMIT, name)(usage.limit)

    async def _read_numbers(self) -> _Read:
        """Read the numbers of the database. After a failure those of the last reading stay."""
        service = partial(read_numbers, settings=self._settings)
        before = () if self._read.last is None else self._read.last.numbers
        try:
            [numbers] = await self._readers.run(service, [datetime.now(UTC)])
        except OverloadedError:
            # The readers are busy, so nothing is known about the database.
            return _Read(before, None)
        except UnavailableError:
            return _Read(before, is_up=False)
        except OoMlError as error:
            logger.error("the numbers for metrics were not read: %s", error.explanation)  # noqa: TRY400 - enough
            return _Read(before, None)
        return _Read(numbers, is_up=True)
