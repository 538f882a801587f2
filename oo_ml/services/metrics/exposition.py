"""The text of /metrics: what the processes have counted, and what this process reads for it.

No scrape waits for the database longer than OO_ML_REQUEST_TIMEOUT, and scrapes at the same time share one reading.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from oo_ml.errors import OoMlError, OverloadedError, UnavailableError
from oo_ml.execution.meter import Usage
from oo_ml.execution.pool import Pool
from oo_ml.metrics import declarations as declared
from oo_ml.metrics.registry import Metrics, Sample
from oo_ml.services.metrics.numbers import read_numbers
from oo_ml.settings import Settings
from oo_ml.storage.postgres.sessions import Reading

logger = logging.getLogger(__name__)


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
        self._numbers: Sequence[Sample] = ()
        self._is_up: bool | None = None
        self._read_at = -float("inf")
        self._reading = asyncio.Lock()

    async def text(self) -> bytes:
        """Return the text for Prometheus. Without the database it has the numbers that were last read."""
        async with self._reading:
            if self._read_at < time.monotonic() - self._settings.metrics_max_age:
                await self._read()
        self._sample()
        up = [] if self._is_up is None else [Sample(declared.DATABASE_UP, self._is_up)]
        # In a thread: with several processes it parses all their files.
        return await asyncio.to_thread(self._metrics.render, [self._build, *up, *self._numbers])

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

    async def _read(self) -> None:
        """Read the numbers of the database. After a failure those of the last reading stay."""
        service = partial(read_numbers, settings=self._settings)
        try:
            [self._numbers] = await self._readers.run(service, [datetime.now(UTC)])
            self._is_up = True
        except OverloadedError:
            # The readers are busy, so nothing is known about the database.
            self._is_up = None
        except UnavailableError:
            self._is_up = False
        except OoMlError as error:
            self._is_up = None
            logger.error("the numbers for metrics were not read: %s", error.message)  # noqa: TRY400 - enough
        self._read_at = time.monotonic()
