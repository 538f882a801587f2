"""Simulated people: what they have to do, and how likely each reaction is to a tip at a moment.

Pure: the same generator gives the same life. Nobody here reads a word of a tip: they react to its features, the
hour, the day and, slightly, to the prompt version that wrote it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.features import Task

MAX_AGE = 30
WEEKEND = (0, 6)  # Sunday, Saturday
# How sharply a reaction follows from how appealing a tip is; 0 would be the same reactions to everything.
_DECIDEDNESS = 3.0


class Reaction(Enum):
    """What a person can do with a tip, with the product's reward for it."""

    DONE = 1.0
    HELPFUL = 0.5
    SNOOZE = 0.0
    NOT_HELPFUL = -0.5
    DISMISS = -1.0


REACTIONS = tuple(Reaction)
_REWARDS = np.array([reaction.value for reaction in REACTIONS])
_INDIFFERENT = np.array([0.2, 0.25, 0.25, 0.15, 0.15])
_SNOOZED = np.array([reaction is Reaction.SNOOZE for reaction in REACTIONS], dtype=float)
# How often a tip gets no reaction at all; half of the others come within twenty minutes, a few after days.
_SILENCE = 0.08
_MEDIAN_MINUTES = 20.0
_SPREAD = 1.8


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do every `every` days, for the first time on day `first`. Priority 4 is the most urgent."""

    id: str
    content: str
    priority: int
    every: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """A tip that may be shown, as the services ask for it: a task as it stands on a day, or words about that task."""

    id: str
    content: str
    task_id: str
    priority: int
    is_overdue: bool
    task_age_days: int
    prompt_version: str | None = None

    @property
    def source(self) -> str:
        """Where it comes from."""
        return "todoist" if self.prompt_version is None else "llm"

    @property
    def features(self) -> Task:
        """What is known of the task behind it."""
        return Task(self.is_overdue, self.task_age_days, self.priority)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, UTC, on a day counted from 0, the first one of the demo."""

    day: int
    at: datetime

    @property
    def hour(self) -> int:
        """Hour of the day."""
        return self.at.hour

    @property
    def weekday(self) -> int:
        """Day of the week; Sunday is 0."""
        return self.at.isoweekday() % 7


@dataclass(frozen=True, slots=True)
class Person:
    """A person's habits: how much each thing adds to a tip's appeal (0: indifferent to it).

    Attributes:
        favourite_version: the prompt version whose tips they like best; None if they have no tips written.
        is_newcomer: whether they came when others had been there for a while.
    """

    name: str
    habit: str
    chores: tuple[Chore, ...]
    favourite_version: str | None = None
    priority: float = 0.0
    overdue: float = 0.0
    hour: float = 0.0
    peak_hour: int = 12
    weekend: float = 0.0
    snoozes_overdue: float = 0.0
    is_newcomer: bool = False

    @property
    def user_id(self) -> str:
        """The id the service knows this person by."""
        return f"demo-{self.name.lower()}"


# The day on which each task, by id, was last done.
LastDone: TypeAlias = Mapping[str, int]


def tasks_on(person: Person, day: int, last_done: LastDone) -> list[Offer]:
    """Return every chore of `person` as it stands on `day`, counted from 0."""
    offers = []
    for task in person.chores:
        due = last_done[task.id] + task.every if task.id in last_done else task.first
        age = min(max(day - due, 0), MAX_AGE)
        offers.append(Offer(task.id, task.content, task.id, task.priority, is_overdue=age > 0, task_age_days=age))
    return offers


def reaction_probabilities(person: Person, offer: Offer, moment: Moment) -> NDArray[np.float64]:
    """Return the probability of each of REACTIONS, shape (5,): an indifferent person's, tilted by the tip's appeal."""
    tilted = _INDIFFERENT * np.exp(_DECIDEDNESS * _appeal(person, offer, moment) * _REWARDS)
    probabilities = tilted / tilted.sum()
    snoozed = person.snoozes_overdue if offer.is_overdue else 0.0
    mixed: NDArray[np.float64] = (1 - snoozed) * probabilities + snoozed * _SNOOZED
    return mixed


def expected_reward(person: Person, offer: Offer, moment: Moment) -> float:
    """Return the mean reward of showing `offer` at `moment`, if there is a reaction."""
    return float(reaction_probabilities(person, offer, moment) @ _REWARDS)


def react(person: Person, offer: Offer, moment: Moment, rng: np.random.Generator) -> Reaction | None:
    """Draw what `person` does when shown `offer`; None: nothing."""
    if rng.random() < _SILENCE:
        return None
    return REACTIONS[int(rng.choice(len(REACTIONS), p=reaction_probabilities(person, offer, moment)))]


def hesitate(rng: np.random.Generator) -> timedelta:
    """Draw how long a reaction takes."""
    return timedelta(minutes=float(rng.lognormal(math.log(_MEDIAN_MINUTES), _SPREAD)))


def _appeal(person: Person, offer: Offer, moment: Moment) -> float:
    appeal = person.priority * (2 * (offer.priority - 1) / 3 - 1)
    appeal += person.hour * math.cos(2 * math.pi * (moment.hour - person.peak_hour) / 24)
    appeal += person.overdue * (0.5 if offer.is_overdue else -0.5)
    appeal += person.weekend if moment.weekday in WEEKEND else 0.0
    if offer.prompt_version is not None:
        appeal += 0.4 if offer.prompt_version == person.favourite_version else -0.1
    return appeal
