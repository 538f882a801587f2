"""Connections to the database for a command line, which does one thing at a time."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine

from oo_ml.errors import OoMlError, UnavailableError, UnsuitableDatabaseError, UnusableAddressError
from oo_ml.execution import retry
from oo_ml.execution.pool import Pool
from oo_ml.execution.retry import Command, Outcome, Service
from oo_ml.settings import Settings
from oo_ml.storage.postgres import engine
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema import database_checks


@contextmanager
def single_connection(
    settings: Settings, database_url: str, *, read_only: bool = False, long: bool = False
) -> Iterator[Engine]:
    """Yield an engine with one connection."""
    single = engine.create(database_url, settings, threads=1, read_only=read_only, long=long)
    try:
        yield single
    finally:
        single.dispose()


@contextmanager
def single_worker(settings: Settings, database_url: str) -> Iterator[Pool[Writing]]:
    """Yield one worker for services that may take OO_ML_LONG_TIMEOUT; on leaving, a transaction that still runs ends.

    Only an interrupted caller leaves one behind: Ctrl-C and SIGTERM reach the caller's thread, not the worker's.
    """
    single = engine.create(database_url, settings, threads=1, long=True)
    worker = Pool[Writing](single, name="long", threads=1, queue=1, timeout=settings.long_timeout)
    try:
        yield worker
    finally:
        worker.close(within=0)


def run_once(  # noqa: PLR0913 - what to run, where, and under which limits
    settings: Settings,
    database_url: str,
    service: Service[Command, Outcome],
    commands: Sequence[Command],
    *,
    read_only: bool = False,
    long: bool = False,
) -> list[Outcome]:
    """Run `service` in one transaction, on a connection of its own."""
    limit = settings.long_timeout if long else settings.request_timeout
    with single_connection(settings, database_url, read_only=read_only, long=long) as single:
        return retry.run(single, service, commands, time.monotonic() + limit)


def refuse_unusable(settings: Settings, database_url: str) -> None:
    """Check the address, and that the database can store every text. ADR 5: one that does not answer passes.

    Raises:
        UnusableAddressError: no server can be reached with this address.
        UnsuitableDatabaseError: its encoding is not UTF8.
    """
    try:
        [problem] = run_once(settings, database_url, _encoding_problem, [None], read_only=True)
    except UnusableAddressError:
        raise
    except UnavailableError:
        return
    if problem is not None:
        raise problem


def _encoding_problem(connection: Reading, _: Sequence[None]) -> list[OoMlError | None]:
    try:
        database_checks.check_encoding(connection)
    except UnsuitableDatabaseError as error:
        return [error]
    return [None]
