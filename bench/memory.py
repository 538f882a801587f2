"""The memory of the service after a few decisions and after very many: a leak shows as growth."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from rich.console import Console

from bench import load
from bench.database import one
from bench.load import Call, Target
from bench.plan import Plan
from oo_ml.progress import progress

_BATCHES: Final = (load.score_batch(100), 4)
_SINGLES: Final = (load.score(), 32)
# Of the first few, and as many of the last, are calls of their own.
_SINGLE_SHARE: Final = 0.2
# Time for running work to end.
_REST_SECONDS: Final = 1.0
_LINES: Final = 10


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of all processes of the service together, how many they are, and decisions a second meanwhile."""

    early: int
    late: int
    processes: int
    rate: float


def measure(target: Target, plan: Plan, console: Console) -> Memory:
    """Let a service that has just started make so many decisions as `plan` says, most of them in batches.

    Raises:
        FailedRunError: a call failed.
    """
    singles = int(plan.memory_from * _SINGLE_SHARE)
    with (
        progress(console.file, "Deciding, for the memory", plan.memory_to, lines=_LINES) as advance,
        target.database.connect() as connection,
    ):
        drive = _Drive(target, connection, advance, _positions(connection))
        drive.until(singles, *_SINGLES)
        drive.until(plan.memory_from, *_BATCHES)
        early, _ = _measure_at_rest(target)
        begun, time_begun = drive.done, time.monotonic()
        drive.until(plan.memory_to - singles, *_BATCHES)
        drive.until(plan.memory_to, *_SINGLES)
        rate = (drive.done - begun) / (time.monotonic() - time_begun)
        late, processes = _measure_at_rest(target)
    return Memory(early, late, processes, rate)


@dataclass(slots=True)
class _Drive:
    """The decisions made so far; `first` is the last position in the history before them."""

    target: Target
    connection: psycopg.Connection[Any]
    advance: Callable[[int], None]
    first: int
    done: int = 0

    def until(self, goal: int, call: Call, clients: int) -> None:
        """Go on until so many decisions have been made."""
        load.run_until(self.target, [call], clients=clients, is_over=lambda: self._count() >= goal)
        self._count()

    def _count(self) -> int:
        before, self.done = self.done, _positions(self.connection) - self.first
        self.advance(self.done - before)
        return self.done


def _positions(connection: psycopg.Connection[Any]) -> int:
    return int(one(connection, "SELECT last_value FROM feature_history_order"))


def _measure_at_rest(target: Target) -> tuple[int, int]:
    time.sleep(_REST_SECONDS)
    return target.service.memory()
