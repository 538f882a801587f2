"""One batch of commands, one transaction: committed before any caller is answered, or without any effect."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from sqlalchemy import Engine
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
from oo_ml.execution.meter import UNMETERED, Meter
from oo_ml.execution.transaction import begin
from oo_ml.storage.postgres import sqlstates
from oo_ml.storage.postgres.sessions import Session, Writing

logger = logging.getLogger(__name__)

Command = TypeVar("Command")
Outcome = TypeVar("Outcome")
Service = Callable[[Writing, Sequence[Command]], Sequence[Outcome]]

MAX_TRIES: Final = 4
_BACKOFF: Final = 0.02
_RETRIED: Final = sqlstates.SERIALIZATION_FAILURES | {sqlstates.UNIQUE_VIOLATION}
_NEVER: Final = threading.Event()


def run(  # noqa: PLR0913 - what to run, where, until when, and who is told
    engine: Engine,
    service: Callable[[Session, Sequence[Command]], Sequence[Outcome]],
    commands: Sequence[Command],
    deadline: float,
    cut: threading.Event = _NEVER,
    *,
    meter: Meter = UNMETERED,
) -> list[Outcome]:
    """Run `service` on `commands` in one transaction and return its outcomes, one a command, after COMMIT.

    A transaction that PostgreSQL aborted in favour of another (40001, 40P01) has left nothing behind and is run
    again. The same holds if another transaction inserted the same row meanwhile (23505: two requests with one
    decision_id or Idempotency-Key): the second try sees that row. No other failure is retried: after a lost
    connection it is unknown whether COMMIT went through.

    Args:
        engine: source of the connection; one of a read-only engine is a Reading.
        service: what to run; it never commits.
        commands: the batch.
        deadline: the time.monotonic() after which no try begins, and the last one ends.
        cut: is set to end it sooner.
        meter: is told of each try.

    Raises:
        UnavailableError: the database can't do it now; see storage/postgres/sqlstates.py.
        UnexpectedError: the database refused a statement that should never have been sent: a bug, and logged as one.
        ValueError: the service did not return an outcome for each command; rolled back.
    """
    for tries_left in reversed(range(MAX_TRIES)):
        began: float | None = None
        try:
            with begin(engine, deadline, cut) as connection:
                began = time.perf_counter()
                outcomes = list(service(cast("Session", connection), commands))
                if len(outcomes) != len(commands):
                    raise ValueError("a service has to return one outcome for each command")
        except DBAPIError as error:
            if not tries_left or sqlstates.sqlstate(error) not in _RETRIED:
                raise _outcome(engine, error, deadline) from None
        else:
            meter.committed(outcomes)
            return outcomes
        finally:
            if began is not None:
                meter.ended(time.perf_counter() - began)
        meter.retried()
        # Jitter, so that two transactions that met don't meet again.
        time.sleep(random.uniform(0, _BACKOFF))  # noqa: S311
    raise AssertionError("unreachable")


def _outcome(engine: Engine, error: DBAPIError, deadline: float) -> OoMlError:
    """Log the failure, without the values that PostgreSQL may quote, and return the error for the caller."""
    outcome = sqlstates.outcome(error)
    if isinstance(outcome, DatabaseUnavailableError) and time.monotonic() >= deadline:
        # The deadline closes the connection, or PostgreSQL does: its limit for an idle transaction ends then too.
        outcome = DatabaseTimeoutError(cause=outcome.cause)
    if isinstance(outcome, DatabaseReadOnlyError):
        # After a failover every pooled connection still leads to the old primary.
        engine.dispose()
    if isinstance(outcome, UnavailableError):
        # A lane tries again and again, and logs it itself once it is too late.
        level = logging.DEBUG if isinstance(outcome, RowLockedError) else logging.WARNING
        logger.log(level, "%s: %s", outcome.code, sqlstates.description(error))
        return outcome
    logger.error("PostgreSQL refused a statement: %s", sqlstates.description(error), stack_info=True)
    return UnexpectedError()
