"""One transaction, which ends at its deadline even if the server is silent: its thread stops waiting. ADR 7.

psycopg waits for its socket in steps of 0.1 s. After each, and before anything is sent, the deadline is looked at.
A connection that died while it was idle is replaced: BEGIN shows it, and nothing of the transaction is sent before.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, RootTransaction, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from oo_ml.errors import DatabaseTimeoutError
from oo_ml.storage.postgres import idle

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

# Seconds that a connection may take to answer BEGIN after a long idle time, and the share of the time that is left.
# A firewall that has forgotten the connection swallows everything that is sent.
_CHECK: Final = 0.5
_CHECK_SHARE: Final = 0.25


@contextmanager
def begin(engine: Engine, deadline: float, cut: threading.Event) -> Iterator[Connection]:
    """Yield a connection in a transaction; commit when the block ends, roll back if it raises.

    Args:
        engine: source of the connection; see `limit_waits`.
        deadline: the time.monotonic() after which the transaction does not begin, and ends if it has.
        cut: is set to end it sooner.

    Raises:
        DatabaseTimeoutError: it is too late to begin.
    """
    limit = _Limit(deadline, cut)
    if limit.is_over():
        raise DatabaseTimeoutError
    transaction = _begin(engine, limit)
    # The limit is lifted before the connection goes back to the pool: it is in order once COMMIT is answered.
    with transaction.connection as connection, _limited(limit), transaction:
        yield connection


def _begin(engine: Engine, limit: "_Limit") -> RootTransaction:
    """Return a transaction whose BEGIN was answered; a pooled connection that turns out to be dead is replaced."""
    while True:
        with _limited(limit):
            connection = engine.connect()
        check_from = idle.check_from(connection)
        try:
            with _limited(limit if check_from is None or check_from > time.monotonic() else limit.of_check()):
                return connection.begin()
        except BaseException as error:
            connection.close()
            is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
            if not is_lost or check_from is None or limit.is_over():
                raise
            logger.info("a connection was lost while it was idle; connecting anew")


def limit_waits(engine: Engine) -> None:
    """Give `engine` connections that wait no longer than the transaction they are used in, from the login on."""
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "handle_error", _keep_the_pool)


@dataclass(frozen=True, slots=True)
class _Limit:
    deadline: float
    cut: threading.Event
    is_check: bool = False

    def is_over(self) -> bool:
        return time.monotonic() >= self.deadline or self.cut.is_set()

    def of_check(self) -> "_Limit":
        """Return the limit for the answer of a connection that may be dead; it leaves time to connect anew."""
        now = time.monotonic()
        return _Limit(now + min(_CHECK, _CHECK_SHARE * (self.deadline - now)), self.cut, is_check=True)


class _Thread(threading.local):
    limit: _Limit | None = None


_thread = _Thread()


@contextmanager
def _limited(limit: _Limit) -> Iterator[None]:
    _thread.limit = limit
    try:
        yield
    finally:
        _thread.limit = None


class _LateError(psycopg.OperationalError):
    """The limit of a transaction is over."""


class _SilentError(_LateError):
    """A connection did not answer after a long idle time."""


class _Connection(psycopg.Connection[Any]):
    def wait(self, gen: PQGen[Value], *arguments: Any, **options: Any) -> Value:  # noqa: ANN401 - the base class's own
        if _thread.limit is None:
            return super().wait(gen, *arguments, **options)
        try:
            return super().wait(_within(_thread.limit, gen), *arguments, **options)
        except _LateError:
            # It is of no use any more: the answer to the last statement may still come.
            self.close()
            raise


def _within(limit: _Limit, gen: PQGen[Value]) -> PQGen[Value]:
    """Pass on each step of `gen` as long as the limit allows it."""
    ready: Any = None
    try:
        while not limit.is_over():
            ready = yield gen.send(ready)
    except StopIteration as end:
        value: Value = end.value
        return value
    if limit.is_check and not limit.cut.is_set():
        raise _SilentError("no answer after a long idle time; the connection is closed")
    reason = "the process stops" if limit.cut.is_set() else "the deadline is over"
    raise _LateError(f"{reason}; the connection is closed")


def _connect(_dialect: object, _record: object, arguments: Any, parameters: Any) -> DBAPIConnection:  # noqa: ANN401
    connection: Any = _Connection.connect(*arguments, **parameters)
    return connection  # type: ignore[no-any-return]


def _keep_the_pool(context: ExceptionContext) -> None:
    # A lost connection usually means a restarted server, and every other connection of the pool is lost too. One that
    # was closed for being late says nothing about the others; a slow server gets no faster by accepting them anew. If
    # it was silent after a long idle time, the others are as likely to be dead, and each would cost a caller the wait.
    error = context.original_exception
    if isinstance(error, _LateError) and not isinstance(error, _SilentError):
        context.invalidate_pool_on_disconnect = False
