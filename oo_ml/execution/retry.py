"""One batch of commands, one transaction: committed before anything is answered, or without any effect."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from oo_ml.errors import (
    DatabaseReadOnlyError,
    DatabaseTimeoutError,
    DatabaseUnavailableError,
    OoMlError,
    RowLockedError,
    UnavailableError,
    UnexpectedError,
)
from oo_ml.storage.postgres import sqlstates

logger = logging.getLogger(__name__)

Command = TypeVar("Command")
Outcome = TypeVar("Outcome")
Service = Callable[[Connection, Sequence[Command]], Sequence[Outcome]]
Guard = Callable[[Connection], AbstractContextManager[None]]

MAX_TRIES: Final = 4
_BACKOFF: Final = 0.02
_RUN_AGAIN: Final = sqlstates.SERIALIZATION_FAILURES | {sqlstates.UNIQUE_VIOLATION}


def run(
    engine: Engine,
    service: Service[Command, Outcome],
    commands: Sequence[Command],
    deadline: float,
    guard: Guard = lambda _: nullcontext(),
) -> list[Outcome]:
    """Run `service` on `commands` in one transaction and return its outcomes, one a command, after COMMIT.

    A transaction that PostgreSQL aborted in favour of another (40001, 40P01) has left nothing behind and is run
    again. So is one that met a row which another had made meanwhile (23505: the same decision_id or Idempotency-Key at
    two doors): now it sees that row. No other failure is: after a lost connection nobody knows whether COMMIT went
    through.

    Args:
        engine: where the connection comes from.
        service: what to do; it never commits.
        commands: the batch.
        deadline: time.monotonic() after which no further try is started.
        guard: entered with the connection before each try begins, left after its COMMIT or ROLLBACK.

    Raises:
        UnavailableError: the database can't do it now; see storage/postgres/sqlstates.py.
        UnexpectedError: the database refused what it should never have been asked: a bug, and logged as one.
    """
    for tries_left in reversed(range(MAX_TRIES)):
        try:
            with engine.connect() as connection, guard(connection), connection.begin():
                return list(service(connection, commands))
        except DBAPIError as error:
            aborted = sqlstates.sqlstate(error) in _RUN_AGAIN
            if not (aborted and tries_left and time.monotonic() < deadline):
                raise _outcome(engine, error, deadline) from None
        # Jitter, so that two transactions that met don't meet again.
        time.sleep(random.uniform(0, _BACKOFF))  # noqa: S311
    raise AssertionError("unreachable")


def _outcome(engine: Engine, error: DBAPIError, deadline: float) -> OoMlError:
    """Log the failure, without the values that PostgreSQL may quote, and return what the caller is told."""
    outcome = sqlstates.outcome(error)
    if isinstance(outcome, DatabaseUnavailableError) and time.monotonic() >= deadline:
        # PostgreSQL's own limit for an idle transaction ends at the deadline too, and may close the connection first.
        outcome = DatabaseTimeoutError()
    if isinstance(outcome, DatabaseReadOnlyError):
        # After a failover every pooled connection still leads to the old primary.
        engine.dispose()
    if isinstance(outcome, UnavailableError):
        # A lane looks again and again, and says so itself once it is too late.
        level = logging.DEBUG if isinstance(outcome, RowLockedError) else logging.WARNING
        logger.log(level, "%s: %s", outcome.code, sqlstates.description(error))
        return outcome
    logger.error("PostgreSQL refused a statement: %s", sqlstates.description(error), stack_info=True)
    return UnexpectedError()
