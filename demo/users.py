"""Simulated users: their tasks, and the probability of each reaction to a tip at a moment.

Pure: the same generator gives the same life. No user reads a word of a tip. Users react to its features, the hour, the
day and, slightly, to the prompt version that wrote it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from demo.reactions import REACTIONS, Reaction

MAX_AGE = 30
WEEKEND = (0, 6)  # Sunday, Saturday
# The effect of a tip's appeal on the reaction; 0 would mean the same reactions to every tip.
_DECIDEDNESS = 3.0


_REWARDS = np.array([reaction.value for reaction in REACTIONS])
_INDIFFERENT = np.array([0.2, 0.25, 0.25, 0.15, 0.15])
_SNOOZED = np.array([reaction is Reaction.SNOOZE for reaction in REACTIONS], dtype=float)
# The share of tips without a reaction. Half of the reactions come within twenty minutes, a few after days.
_SILENCE = 0.08
_MEDIAN_MINUTES = 20.0
_SPREAD = 1.8


@dataclass(frozen=True, slots=True)
class Chore:
    """A task that is due every `every` days, for the first time on day `first`. Priority 4 is the most urgent."""

    id: str
    content: str
    priority: int
    every: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate for the services: a task on a day, or a tip about that task."""

    id: str
    content: str
    task_id: str
    priority: int
    is_overdue: bool
    task_age_days: int
    prompt_version: str | None = None

    @property
    def source(self) -> str:
        """The source of the candidate."""
        return "todoist" if self.prompt_version is None else "llm"

    @property
    def features(self) -> Mapping[str, object]:
        """The raw features, as the policies read them."""
        return {
            "is_overdue": self.is_overdue,
            "task_age_days": float(self.task_age_days),
            "priority": self.priority,
        }


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
class User:
    """A user's habits: the weight of each property in the appeal of a tip (0: no effect).

    Attributes:
        favourite_version: the prompt version with the best tips for this user; None if no tips are written.
        is_newcomer: whether the user comes in the last weeks.
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
        """The id that the service is told."""
        return f"demo-{self.name.lower()}"


# The day on which each task, by id, was last done.
LastDone: TypeAlias = Mapping[str, int]


def list_tasks(user: User, day: int, last_done: LastDone) -> list[Candidate]:
    """Return every chore of `user` as it stands on `day`, counted from 0."""
    candidates = []
    for task in user.chores:
        due = last_done[task.id] + task.every if task.id in last_done else task.first
        age = min(max(day - due, 0), MAX_AGE)
        candidates.append(
            Candidate(task.id, task.content, task.id, task.priority, is_overdue=age > 0, task_age_days=age)
        )
    return candidates


def compute_reaction_probabilities(user: User, candidate: Candidate, moment: Moment) -> NDArray[np.float64]:
    """Return the probability of each of REACTIONS, shape (5,): an indifferent user's, tilted by the tip's appeal."""
    tilted = _INDIFFERENT * np.exp(_DECIDEDNESS * _compute_appeal(user, candidate, moment) * _REWARDS)
    probabilities = tilted / tilted.sum()
    snoozed = user.snoozes_overdue if candidate.is_overdue else 0.0
    mixed: NDArray[np.float64] = (1 - snoozed) * probabilities + snoozed * _SNOOZED
    return mixed


def compute_expected_reward(user: User, candidate: Candidate, moment: Moment) -> float:
    """Return the mean reward of showing `candidate` at `moment`, if there is a reaction."""
    return float(compute_reaction_probabilities(user, candidate, moment) @ _REWARDS)


def draw_reaction(user: User, candidate: Candidate, moment: Moment, rng: np.random.Generator) -> Reaction | None:
    """Draw the reaction of `user` to `candidate`; None: there is none."""
    if rng.random() < _SILENCE:
        return None
    return REACTIONS[int(rng.choice(len(REACTIONS), p=compute_reaction_probabilities(user, candidate, moment)))]


def draw_delay(rng: np.random.Generator) -> timedelta:
    """Draw the time until a reaction comes."""
    return timedelta(minutes=float(rng.lognormal(math.log(_MEDIAN_MINUTES), _SPREAD)))


def _compute_appeal(user: User, candidate: Candidate, moment: Moment) -> float:
    appeal = user.priority * (2 * (candidate.priority - 1) / 3 - 1)
    appeal += user.hour * math.cos(2 * math.pi * (moment.hour - user.peak_hour) / 24)
    appeal += user.overdue * (0.5 if candidate.is_overdue else -0.5)
    appeal += user.weekend if moment.weekday in WEEKEND else 0.0
    if candidate.prompt_version is not None:
        appeal += 0.4 if candidate.prompt_version == user.favourite_version else -0.1
    return appeal
