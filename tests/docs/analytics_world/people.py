"""Sixty simulated people and how they react: pure, so that what each prompt version is worth is known exactly.

v4-reminder writes about what has waited longest, v5-first-step about what matters most. People do more of what
v5-first-step writes, whatever the day. But on a day on which something is overdue they do most of what they are told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Final

from oo_ml.domain.features import Moment, Task
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB

FIRST_DAY: Final = date(2026, 9, 28)
WEEKS: Final = 8
REMINDER: Final = "v4-reminder"
FIRST_STEP: Final = "v5-first-step"
VERSIONS: Final = (REMINDER, FIRST_STEP)

_HOURS: Final = (8, 13, 20)
# How likely a tip is to be done, by version: on a quiet day, and on one with something overdue.
_DONE: Final = {REMINDER: (0.04, 0.76), FIRST_STEP: (0.40, 0.80)}
_OVERDUE_DAYS: Final = 0.4
_BY_PLATFORM: Final = {"ios": 0.04, "android": -0.04}
_BY_HOUR: Final = dict(zip(_HOURS, (0.03, 0.0, -0.03), strict=True))
# What is said of a tip that isn't done, as (this likely or less, reward).
_OTHERWISE: Final = ((0.25, 0.5), (0.55, 0.0), (0.70, -0.5), (1.0, -1.0))
_SILENT: Final = 0.1


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, and the policy that decides for them."""

    number: int

    @property
    def platform(self) -> str:
        """What they read their tips on."""
        return "ios" if self.number <= 30 else "android"

    @property
    def user_id(self) -> str:
        """The id the service knows them by."""
        return f"{self.platform}-{self.number:02}"

    @property
    def policy(self) -> str:
        """One policy for every second person, the other for the rest."""
        return LINUCB if self.number % 2 else EPSILON_GREEDY


PEOPLE: Final = tuple(Person(number) for number in range(1, 61))


@dataclass(frozen=True, slots=True)
class Situation:
    """A moment at which a person is shown a tip; on a quiet day nothing is overdue, for 0 days."""

    person: Person
    at: datetime
    overdue_days: int

    @property
    def moment(self) -> Moment:
        """The moment as the service is told it; Sunday is 0."""
        return Moment(self.at.hour, self.at.isoweekday() % 7)

    def task(self, version: str) -> Task:
        """The task that a version writes about."""
        if version == REMINDER:
            return Task(is_overdue=self.overdue_days > 0, task_age_days=self.overdue_days, priority=1)
        return Task(is_overdue=False, task_age_days=0, priority=4)

    def done(self, version: str) -> float:
        """How likely a tip by this version is to be done."""
        likes = _DONE[version][self.overdue_days > 0]
        return (1 - _SILENT) * (likes + _BY_PLATFORM[self.person.platform] + _BY_HOUR[self.at.hour])

    def react(self, version: str, random: Random) -> float | None:
        """Draw the reward of a tip by this version; None: no reaction at all."""
        what, otherwise = random.random(), random.random()
        if what < self.done(version):
            return 1.0
        if what >= 1 - _SILENT:
            return None
        return next(reward for likely, reward in _OTHERWISE if otherwise < likely)


def situations(random: Random) -> list[list[Situation]]:
    """Return the moments of the weeks, in order, each with everybody's situation."""
    moments = []
    for day in range(7 * WEEKS):
        midnight = datetime.combine(FIRST_DAY, datetime.min.time(), UTC) + timedelta(days=day)
        overdue = [1 + int(5 * random.random()) if random.random() < _OVERDUE_DAYS else 0 for _ in PEOPLE]
        moments += [
            [
                Situation(person, midnight + timedelta(hours=hour, seconds=int(3600 * random.random())), days)
                for person, days in zip(PEOPLE, overdue, strict=True)
            ]
            for hour in _HOURS
        ]
    return moments


def truth(moments: Sequence[Sequence[Situation]]) -> dict[str, float]:
    """Return the share of tips that would have been done, had a version written all of them."""
    shown = [situation for everybody in moments for situation in everybody]
    return {version: sum(situation.done(version) for situation in shown) / len(shown) for version in VERSIONS}
