"""The objects that a serving process holds: the database's threads, the gateway's client, and services on them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import httpx

from oo_ml import tracing
from oo_ml.errors import OoMlError
from oo_ml.execution.lanes import Lanes, Limits
from oo_ml.execution.pool import Pool
from oo_ml.execution.retry import Outcome, Service
from oo_ml.execution.shared_reading import SharedReading
from oo_ml.llm.client import create_client
from oo_ml.metrics.declarations import UPKEEP_FAILURES
from oo_ml.metrics.registry import Metrics
from oo_ml.services.access.keys import KeyRing
from oo_ml.services.metrics.exposition import Exposition
from oo_ml.services.metrics.meters import count_generations, create_meter
from oo_ml.services.policies.catalogue import PolicyCatalogue
from oo_ml.services.policies.compiled import rules_of
from oo_ml.services.prompts.generate import GenerateCommand, Generated, generate
from oo_ml.services.upkeep import scheduler
from oo_ml.settings import Settings
from oo_ml.storage.postgres import engine
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.revisions import readiness

logger = logging.getLogger(__name__)

# Seconds to send the last spans if the accepted calls have taken the whole OO_ML_SHUTDOWN_TIMEOUT.
_LAST_SPANS: Final = 1.0


class _OfUser(Protocol):
    @property
    def user_id(self) -> str: ...


UserCommand = TypeVar("UserCommand", bound=_OfUser)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that handlers use: one object a process.

    Attributes:
        generate: the service of this name with the settings of this process.
        lanes: threads for services that change one user's state.
        writers: threads for other services that write.
        readers: threads for services that only read.
        long: threads for services that may take OO_ML_LONG_TIMEOUT.
        fits: the thread that reads users and stores priors: no report waits for it, and it waits for none.
        keys: the API keys in use.
        policies: the published policies.
        readiness: the reason why this release can't work on the database now; None if it can.
        metrics, exposition: the metrics of this process, and the text for Prometheus.
    """

    settings: Settings
    generate: Callable[[GenerateCommand], Awaitable[Generated]]
    lanes: Lanes
    writers: Pool[Writing]
    readers: Pool[Reading]
    long: Pool[Writing]
    fits: Pool[Writing]
    keys: KeyRing
    policies: PolicyCatalogue
    readiness: SharedReading[OoMlError | None]
    llm: httpx.AsyncClient
    metrics: Metrics
    exposition: Exposition

    async def check_readiness(self) -> None:
        """Check that this release can work on the database now.

        Raises:
            OoMlError: it can't.
        """
        if reason := await self.readiness.since(time.monotonic()):
            raise reason

    async def together(
        self, service: Service[UserCommand, Outcome | OoMlError], commands: Sequence[UserCommand]
    ) -> list[Outcome | OoMlError]:
        """Run `service` on commands of any users in one transaction; return an outcome for each.

        With OO_ML_LANE_ONE_USER each command goes through its user's lane, in a transaction of its own. Together
        they take at most half of a lane's queue.

        Raises:
            UnavailableError: the transaction can't be made now.
        """
        if not commands:
            return []
        if not self.settings.lane_one_user:
            return await self.writers.run(service, commands)
        places = asyncio.Semaphore(max(1, self.settings.lane_queue // 2))
        return await asyncio.gather(*(self._run_alone(service, command, places) for command in commands))

    async def _run_alone(
        self, service: Service[UserCommand, Outcome | OoMlError], command: UserCommand, places: asyncio.Semaphore
    ) -> Outcome | OoMlError:
        async with places:
            try:
                return await self.lanes.run(service, command.user_id, command)
            except OoMlError as error:
                return error


def create_services(settings: Settings, database_url: str) -> Services:
    """Return the services of a process. No connection is made yet.

    Raises:
        ConfigurationError: a setting is invalid.
    """
    metrics = Metrics()

    def pool(name: str, threads: int, timeout: float, *, read_only: bool = False, long: bool = False) -> Pool[Any]:
        source = engine.create(database_url, settings, threads=threads, read_only=read_only, long=long)
        meter = create_meter(metrics, name)
        return Pool(source, name=name, threads=threads, queue=settings.database_queue, timeout=timeout, meter=meter)

    writers: Pool[Writing] = pool("writer", settings.database_workers, settings.request_timeout)
    readers: Pool[Reading] = pool("reader", settings.database_readers, settings.request_timeout, read_only=True)
    long: Pool[Writing] = pool("long", settings.long_workers, settings.long_timeout, long=True)
    fits: Pool[Writing] = pool("fit", 1, settings.long_timeout, long=True)
    lanes = Lanes(
        engine.create(database_url, settings, threads=settings.lanes, lanes=True),
        settings.lanes,
        Limits(
            batch=settings.lane_batch,
            queue=settings.lane_queue,
            timeout=settings.request_timeout,
            lock_timeout=settings.lock_timeout,
            lane_lock_timeout=settings.lane_lock_timeout,
            one_user=settings.lane_one_user,
        ),
        create_meter(metrics, "lanes"),
    )
    usages = {
        "lanes": lanes.usage,
        "writer": writers.usage,
        "reader": readers.usage,
        "long": long.usage,
        "fit": fits.usage,
    }
    client = create_client(settings)
    return Services(
        settings=settings,
        generate=partial(
            generate,
            settings=settings,
            client=client,
            readers=readers,
            writers=writers,
            generated=count_generations(metrics),
        ),
        lanes=lanes,
        writers=writers,
        readers=readers,
        long=long,
        fits=fits,
        keys=KeyRing(
            readers,
            writers,
            admin_token=None if settings.admin_key is None else settings.admin_key.get_secret_value(),
            max_age=settings.key_max_age,
        ),
        policies=PolicyCatalogue(readers, rules_of(settings), max_age=settings.policy_max_age),
        readiness=SharedReading(partial(_read_readiness, readers)),
        llm=client,
        metrics=metrics,
        exposition=Exposition(metrics, settings, readers, usages),
    )


@asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Log whether the database is ready; on leaving, finish the accepted calls."""
    try:
        async with services.llm:
            await _report_readiness(services)
            failed = services.metrics.increase(UPKEEP_FAILURES)
            async with (
                scheduler.run_in_background(
                    services.settings, services.writers, services.long, services.fits, failed=failed
                ),
                services.exposition.sampled(),
            ):
                yield
    finally:
        until = time.monotonic() + services.settings.shutdown_timeout
        for threads in (services.lanes, services.writers, services.readers, services.long, services.fits):
            threads.close(max(0.0, until - time.monotonic()))
        tracing.close(max(_LAST_SPANS, until - time.monotonic()))


async def _read_readiness(readers: Pool[Reading]) -> OoMlError | None:
    [reason] = await readers.run(lambda connection, _: [readiness(connection)], [None])
    return reason


async def _report_readiness(services: Services) -> None:
    # ADR 5: the service starts without its database, and answers 503 until the database is there.
    try:
        await services.check_readiness()
    except OoMlError as error:
        logger.error("not ready: %s", error.explanation)  # noqa: TRY400 - the message is enough
