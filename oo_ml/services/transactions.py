"""One batch of commands, one transaction: committed before anything is answered, or without any effect."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from oo_ml.errors import DatabaseReadOnlyError
from oo_ml.storage import failures

logger = logging.getLogger(__name__)

Command = TypeVar("Command")
Outcome = TypeVar("Outcome")
Service = Callable[[Connection, Sequence[Command]], list[Outcome]]

MAX_TRIES: Final = 4
_BACKOFF: Final = 0.02


def run(
    engine: Engine,
    service: Service[Command, Outcome],
    commands: Sequence[Command],
    deadline: float,
    on_connect: Callable[[Connection], None] = lambda _: None,
) -> list[Outcome]:
    """Run `service` on `commands` in one transaction and return its outcomes, one a command, after COMMIT.

    A transaction that PostgreSQL aborted in favour of another (40001, 40P01) has left nothing behind and is run
    again. No other failure is: after a lost connection nobody knows whether COMMIT went through.

    Args:
        engine: where the connection comes from.
        service: what to do; it never commits.
        commands: the batch.
        deadline: time.monotonic() after which no further try is started.
        on_connect: is given the connection before the service is.

    Raises:
        UnavailableError: the database can't do it now; see storage/failures.py.
        DBAPIError: the database refused what it should never have been asked: a bug.
    """
    for tries_left in reversed(range(MAX_TRIES)):
        try:
            with engine.begin() as connection:
                on_connect(connection)
                return service(connection, commands)
        except (DBAPIError, PoolTimeoutError) as error:
            if tries_left and _may_run_again(error) and time.monotonic() < deadline:
                # Jitter, so that two transactions that met don't meet again.
                time.sleep(random.uniform(0, _BACKOFF))  # noqa: S311
                continue
            outcome = failures.outcome(error)
            if outcome is None:
                raise
            if isinstance(outcome, DatabaseReadOnlyError):
                # After a failover every pooled connection still leads to the old primary.
                engine.dispose()
            reason = str(error.orig if isinstance(error, DBAPIError) else error)
            logger.warning("%s: %s", outcome.code, " ".join(reason.split()))
            raise outcome from error
    raise AssertionError("unreachable")


def _may_run_again(error: DBAPIError | PoolTimeoutError) -> bool:
    return isinstance(error, DBAPIError) and failures.sqlstate(error) in failures.SERIALIZATION_FAILURES
