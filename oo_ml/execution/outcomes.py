"""The way back of an outcome: from the thread that ran the transaction to the caller in its event loop."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Final, TypeVar

from oo_ml.errors import DatabaseTimeoutError, OoMlError

Result = TypeVar("Result")

# uvloop counts in milliseconds and rounds down. No caller may be told before the deadline, or its command could still
# begin afterwards.
_TICK: Final = 0.002


def only(outcomes: Sequence[Result | OoMlError]) -> Result:
    """Return the result of a batch of one.

    Raises:
        OoMlError: the command was refused.
    """
    [outcome] = outcomes
    if isinstance(outcome, OoMlError):
        raise outcome
    return outcome


def send(answers: Iterable[asyncio.Future[Any]], outcomes: Iterable[object]) -> None:
    """Send each caller its outcome, from any thread; wake each event loop once, since that costs more than the rest."""
    pairs = zip(answers, outcomes, strict=True)
    for loop, of_loop in groupby(pairs, key=lambda pair: pair[0].get_loop()):
        # In an event loop that has been closed no caller waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, list(of_loop))


async def receive(answer: asyncio.Future[Result], timeout: float) -> Result:  # noqa: ASYNC109 - asyncio.timeout costs more
    """Return the outcome that is sent to `answer`.

    Raises:
        DatabaseTimeoutError: nothing was sent in time.
        Exception: the outcome is an exception.
    """
    timer = answer.get_loop().call_later(timeout + _TICK, _expire, answer)
    try:
        return await answer
    finally:
        timer.cancel()


def _settle(outcomes: Iterable[tuple[asyncio.Future[Any], object]]) -> None:
    for answer, outcome in outcomes:
        if answer.done():
            # The caller is gone, or has been told that the time is over.
            continue
        if isinstance(outcome, StopIteration):
            # A future takes any exception but this one.
            answer.set_exception(RuntimeError("a service raised StopIteration"))
        elif isinstance(outcome, BaseException):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)


def _expire(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(DatabaseTimeoutError())
