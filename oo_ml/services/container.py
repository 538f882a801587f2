"""What a process needs to serve: a database, the threads that talk to it, a client of the language model."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import httpx
from sqlalchemy import Connection, Engine

from oo_ml import embedded_postgres, llm
from oo_ml.errors import OoMlError, UnavailableError, UnsuitableDatabaseError
from oo_ml.execution import retry
from oo_ml.execution.lanes import Lanes, Limits
from oo_ml.execution.outcomes import only
from oo_ml.execution.pool import Pool
from oo_ml.execution.retry import Command, Outcome, Service
from oo_ml.services.decisions.decide import Answer, DecideCommand, Parameters, decide
from oo_ml.services.upkeep import scheduler
from oo_ml.settings import Settings
from oo_ml.storage.postgres import engine
from oo_ml.storage.schema import suitability
from oo_ml.storage.schema.migrate import readiness, upgrade

logger = logging.getLogger(__name__)


class _OfUser(Protocol):
    @property
    def user_id(self) -> str: ...


UserCommand = TypeVar("UserCommand", bound=_OfUser)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that handlers use: one object a process.

    Attributes:
        decide: the service of that name with the parameters of this process.
        lanes: what changes one user's state.
        writers: what else writes.
        readers: what only reads.
        long: what may take OO_ML_LONG_TIMEOUT.
    """

    settings: Settings
    decide: Service[DecideCommand, Answer | OoMlError]
    lanes: Lanes
    writers: Pool
    readers: Pool
    long: Pool
    llm: httpx.AsyncClient

    async def together(
        self, service: Service[UserCommand, Outcome | OoMlError], commands: Sequence[UserCommand]
    ) -> list[Outcome | OoMlError]:
        """Run `service` on commands of any users in one transaction; return an outcome for each.

        With OO_ML_LANE_ONE_USER each has the transaction that its user's lane gives it, and an outcome of its own;
        they take up at most half of a lane's queue.

        Raises:
            UnavailableError: the database can't do it now.
        """
        if not commands:
            return []
        if not self.settings.lane_one_user:
            return await self.writers.run(service, commands)
        places = asyncio.Semaphore(max(1, self.settings.lane_queue // 2))
        return await asyncio.gather(*(self._alone(service, command, places) for command in commands))

    async def _alone(
        self, service: Service[UserCommand, Outcome | OoMlError], command: UserCommand, places: asyncio.Semaphore
    ) -> Outcome | OoMlError:
        async with places:
            try:
                return await self.lanes.run(service, command.user_id, command)
            except OoMlError as error:
                return error


@contextmanager
def database(settings: Settings, *, migrate: bool = True) -> Iterator[str]:
    """Yield the address of the database: the one the settings name, as it is, or a private one, migrated.

    A server of somebody else's is never migrated unasked: that is what `oo-ml db upgrade` is for. With `migrate`
    off the private one isn't either.

    Raises:
        ConfigurationError: what is named isn't an address of a PostgreSQL server.
        EmbeddedPostgresError: no server is named and none could be started.
    """
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        engine.parse_url(url)
        yield url
        return
    with embedded_postgres.running(
        settings.data_dir, bin_dir=settings.postgres_bin_dir, start_timeout=settings.postgres_start_timeout
    ) as server:
        if migrate:
            upgrade(server.url, settings)
        yield server.url


@contextmanager
def single_connection(
    settings: Settings, database_url: str, *, read_only: bool = False, long: bool = False
) -> Iterator[Engine]:
    """Yield the engine of a process that does one thing at a time, such as a command line."""
    single = engine.create(database_url, settings, threads=1, read_only=read_only, long=long)
    try:
        yield single
    finally:
        single.dispose()


@contextmanager
def single_worker(settings: Settings, database_url: str) -> Iterator[Pool]:
    """Yield a worker of such a process for what may take OO_ML_LONG_TIMEOUT; on leaving it finishes what it is at."""
    single = engine.create(database_url, settings, threads=1, long=True)
    worker = Pool(single, name="long", threads=1, queue=1, timeout=settings.long_timeout)
    try:
        yield worker
    finally:
        worker.close()


def run_once(  # noqa: PLR0913 - what to run, where, and under which limits
    settings: Settings,
    database_url: str,
    service: Service[Command, Outcome],
    commands: Sequence[Command],
    *,
    read_only: bool = False,
    long: bool = False,
) -> list[Outcome]:
    """Run `service` in one transaction of a process that does nothing else."""
    limit = settings.long_timeout if long else settings.request_timeout
    with single_connection(settings, database_url, read_only=read_only, long=long) as single:
        return retry.run(single, service, commands, time.monotonic() + limit)


def create_services(settings: Settings, database_url: str) -> Services:
    """Return the services of a process; nothing is connected yet.

    Raises:
        ConfigurationError: a setting makes no sense.
    """
    queue, timeout = settings.database_queue, settings.request_timeout
    lanes = engine.create(database_url, settings, threads=settings.lanes, lanes=True)
    writers = engine.create(database_url, settings, threads=settings.database_workers)
    readers = engine.create(database_url, settings, threads=settings.database_readers, read_only=True)
    long = engine.create(database_url, settings, threads=settings.long_workers, long=True)
    return Services(
        settings=settings,
        decide=partial(decide, parameters=Parameters(settings.alpha, settings.epsilon, settings.exploration)),
        lanes=Lanes(
            lanes,
            settings.lanes,
            Limits(
                batch=settings.lane_batch,
                queue=settings.lane_queue,
                timeout=timeout,
                lock_timeout=settings.lock_timeout,
                lane_lock_timeout=settings.lane_lock_timeout,
                one_user=settings.lane_one_user,
            ),
        ),
        writers=Pool(writers, name="writer", threads=settings.database_workers, queue=queue, timeout=timeout),
        readers=Pool(readers, name="reader", threads=settings.database_readers, queue=queue, timeout=timeout),
        long=Pool(long, name="long", threads=settings.long_workers, queue=queue, timeout=settings.long_timeout),
        llm=llm.create_client(settings),
    )


@asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Say whether the database is ready, and on leaving finish what was accepted."""
    try:
        async with services.llm:
            await _report_readiness(services)
            async with scheduler.in_background(services.settings, services.writers, services.long):
                yield
    finally:
        for threads in (services.lanes, services.writers, services.readers, services.long):
            threads.close(services.settings.shutdown_timeout)


def ready(connection: Connection, _: Sequence[None]) -> list[OoMlError | None]:
    """Return why this release can't work on the database; None if it can."""
    return [readiness(connection)]


def refuse_encoding(settings: Settings, database_url: str) -> None:
    """Make sure that the database stores every text, if it answers. One that is away may be back soon: see ADR 5.

    Raises:
        UnsuitableDatabaseError: its encoding is not UTF8.
    """
    try:
        [problem] = run_once(settings, database_url, _encoding_problem, [None], read_only=True)
    except UnavailableError:
        return
    if problem is not None:
        raise problem


def _encoding_problem(connection: Connection, _: Sequence[None]) -> list[OoMlError | None]:
    try:
        suitability.check_encoding(connection)
    except UnsuitableDatabaseError as error:
        return [error]
    return [None]


async def _report_readiness(services: Services) -> None:
    # A database that is away or not migrated yet is no reason to die: until it is there, calls are answered 503.
    try:
        only(await services.readers.run(ready, [None]))
    except OoMlError as error:
        logger.error("not ready: %s", error.message)  # noqa: TRY400 - the sentence says it all
