"""What every part of the demo works with, and how far a long step has come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import numpy as np
from rich.console import Console

from demo.people import Moment, Person
from oo_ml.progress import progress
from oo_ml.services.container import Services

T = TypeVar("T")

# How long before the end newcomers come, at most.
_NEWCOMERS_DAYS = 28


@dataclass(frozen=True, slots=True)
class Stage:
    """The services, the people, the days up to `now`, the source of the people's draws, and where to print."""

    services: Services
    people: Sequence[Person]
    days: int
    now: datetime
    rng: np.random.Generator
    console: Console

    def moment(self, day: int, hour: int, minutes: float = 0.0) -> Moment:
        """Return a moment of a day, counted from 0; the last one is today."""
        midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        ago = timedelta(days=self.days - 1 - day)
        return Moment(day, midnight - ago + timedelta(hours=hour, minutes=minutes))

    def first_day(self, person: Person) -> int:
        """Return the day on which somebody comes."""
        return max(self.days - _NEWCOMERS_DAYS, 0) if person.is_newcomer else 0


def steps(console: Console, what: str, items: Sequence[T]) -> Iterator[T]:
    """Yield `items`, showing how many are done."""
    with progress(console, what, len(items), lines=8) as advance:
        for item in items:
            yield item
            advance(1)
