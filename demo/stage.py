"""The stage that every part of the demo shares, and the progress of a long step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import numpy as np
from rich.console import Console

from demo.users import Moment, User
from oo_ml.progress import progress
from oo_ml.services.container import Services

T = TypeVar("T")

# Newcomers come at most this long before the end.
_NEWCOMERS_DAYS = 28


@dataclass(frozen=True, slots=True)
class Stage:
    """The services, the users, the days up to `now`, the source of the users' draws, and where to print."""

    services: Services
    users: Sequence[User]
    days: int
    now: datetime
    rng: np.random.Generator
    console: Console

    def moment(self, day: int, hour: int, minutes: float = 0.0) -> Moment:
        """Return a moment of a day, counted from 0; the last one is today."""
        midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        ago = timedelta(days=self.days - 1 - day)
        return Moment(day, midnight - ago + timedelta(hours=hour, minutes=minutes))

    def first_day(self, user: User) -> int:
        """Return the day on which a user comes."""
        return max(self.days - _NEWCOMERS_DAYS, 0) if user.is_newcomer else 0


def track(console: Console, title: str, items: Sequence[T]) -> Iterator[T]:
    """Yield `items`, and show how many are done."""
    with progress(console.file, title, len(items), lines=8) as advance:
        for item in items:
            yield item
            advance(1)
