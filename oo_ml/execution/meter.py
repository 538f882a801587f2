"""The numbers of lanes and pools, and the outcomes of their transactions, for whatever counts them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

logger = logging.getLogger(__name__)


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Meter:
    """Functions that lanes or a pool call in their threads; by default each does nothing.

    If one fails, the log has the error: a transaction that has committed must not look as if it had failed.

    Attributes:
        waited: is told the seconds that a call waited until its transaction began.
        shared: is told the number of commands of a transaction.
        ended: is told the seconds of a transaction, until COMMIT or ROLLBACK.
        retried: is called before a transaction is run again.
        committed: is told the outcomes of a transaction after COMMIT, before any caller.
    """

    waited: Callable[[float], None] = _ignore
    shared: Callable[[int], None] = _ignore
    ended: Callable[[float], None] = _ignore
    retried: Callable[[], None] = _ignore
    committed: Callable[[Sequence[object]], None] = _ignore

    def __post_init__(self) -> None:
        """Catch what the functions raise."""
        for one in fields(self):
            object.__setattr__(self, one.name, _harmless(getattr(self, one.name)))


def _harmless(tell: Callable[..., None]) -> Callable[..., None]:
    def told(*arguments: Any) -> None:  # noqa: ANN401 - those of any of the functions
        try:
            tell(*arguments)
        except Exception:
            logger.exception("a transaction was not measured")

    return told


UNMETERED: Final = Meter()


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of lanes or a pool at this moment.

    Attributes:
        queued: calls that wait for a thread.
        in_use: connections that run a transaction.
        idle: open connections that run none.
        limit: connections, at most.
    """

    queued: int
    in_use: int
    idle: int
    limit: int
