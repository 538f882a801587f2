"""What a process needs to serve: a database, the threads that talk to it, a client of the language model."""

import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx
from sqlalchemy import Connection, Engine

from oo_ml import embedded_postgres, llm
from oo_ml.errors import OoMlError, SchemaNotReadyError
from oo_ml.services import transactions
from oo_ml.services.outcomes import only
from oo_ml.services.score import Parameters
from oo_ml.services.transactions import Command, Outcome, Service
from oo_ml.services.workers import Workers
from oo_ml.settings import Settings
from oo_ml.storage import engine, migrations

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that handlers use: one object a process."""

    settings: Settings
    parameters: Parameters
    writers: Workers
    readers: Workers
    llm: httpx.AsyncClient


@contextmanager
def database(settings: Settings, *, migrate: bool = True) -> Iterator[str]:
    """Yield the address of the database: the one the settings name, as it is, or a private one, migrated.

    A server of somebody else's is never migrated unasked: that is what `oo-ml db upgrade` is for. With `migrate`
    off the private one isn't either.

    Raises:
        EmbeddedPostgresError: no server is named and none could be started.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with embedded_postgres.running(
        settings.data_dir, bin_dir=settings.postgres_bin_dir, start_timeout=settings.postgres_start_timeout
    ) as server:
        if migrate:
            migrations.upgrade(server.url, settings)
        yield server.url


@contextmanager
def single_connection(settings: Settings, database_url: str, *, read_only: bool = False) -> Iterator[Engine]:
    """Yield the engine of a process that does one thing at a time, such as a command line."""
    single = engine.create(database_url, settings, threads=1, read_only=read_only)
    try:
        yield single
    finally:
        single.dispose()


def run_once(
    settings: Settings, database_url: str, service: Service[Command, Outcome], commands: Sequence[Command]
) -> list[Outcome]:
    """Run `service` in one transaction of a process that does nothing else."""
    with single_connection(settings, database_url) as single:
        return transactions.run(single, service, commands, time.monotonic() + settings.request_timeout)


def create_services(settings: Settings, database_url: str) -> Services:
    """Return the services of a process; nothing is connected yet.

    Raises:
        ConfigurationError: a setting makes no sense.
    """
    write_engine = engine.create(database_url, settings, threads=settings.database_workers)
    read_engine = engine.create(database_url, settings, threads=settings.database_readers, read_only=True)
    return Services(
        settings=settings,
        parameters=Parameters(settings.alpha, settings.epsilon),
        writers=Workers(write_engine, name="writer", threads=settings.database_workers, settings=settings),
        readers=Workers(read_engine, name="reader", threads=settings.database_readers, settings=settings),
        llm=llm.create_client(settings),
    )


@asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Say whether the database is ready, and on leaving finish what was accepted."""
    try:
        async with services.llm:
            await _report_readiness(services)
            yield
    finally:
        services.writers.close()
        services.readers.close()


def ready(connection: Connection, _: Sequence[None]) -> list[OoMlError | None]:
    """Say whether this release can work on the database."""
    return [None if migrations.is_ready(connection) else SchemaNotReadyError()]


async def _report_readiness(services: Services) -> None:
    # A database that is away or not migrated yet is no reason to die: until it is there, calls are answered 503.
    try:
        only(await services.readers.run(ready, [None]))
    except OoMlError as error:
        logger.error("not ready: %s", error.message)  # noqa: TRY400 - the sentence says it all
