"""Four simulated people: what they have to do, and how likely each reaction is to a tip at a moment.

Pure: the same generator gives the same life. Nobody here reads a word of a tip: they react to its features, the
hour, the day and, slightly, to the prompt version that wrote it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do every `every` days, for the first time on day `first`. Priority 4 is the most urgent."""

    id: str
    content: str
    priority: int
    every: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """One tip that may be shown: a task as it stands on a day, or generated words about that task."""

    id: str
    content: str
    task_id: str
    priority: int
    is_overdue: bool
    task_age_days: int
    prompt_version: str | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """An hour of a day; day 0 is a Sunday."""

    day: int
    hour: int

    @property
    def weekday(self) -> int:
        """Day of the week, 0 to 6."""
        return self.day % 7

    @property
    def week(self) -> int:
        """Week, counted from 0."""
        return self.day // 7


@dataclass(frozen=True, slots=True)
class Person:
    """A person's habits: how much each thing adds to a tip's appeal (0: indifferent to it)."""

    name: str
    habit: str
    tasks: tuple[Task, ...]
    favourite_version: str
    priority: float = 0.0
    overdue: float = 0.0
    hour: float = 0.0
    peak_hour: int = 12
    weekend: float = 0.0
    snoozes_overdue: float = 0.0

    @property
    def user_id(self) -> str:
        """The id the service knows this person by."""
        return f"demo-{self.name.lower()}"


PEOPLE = (
    Person(
        name="Ada",
        habit="early bird: the urgent things, before nine",
        tasks=(
            Task("ada-1", "Send the quarterly figures to Ines", 4, 3),
            Task("ada-2", "Answer the letter from the tax office", 4, 9, 2),
            Task("ada-3", "Prepare the team meeting", 3, 2),
            Task("ada-4", "Water the plants", 1, 4),
            Task("ada-5", "Sort the holiday photos", 1, 14, 5),
            Task("ada-6", "Book a dentist's appointment", 2, 20, 1),
        ),
        favourite_version="v2-mentor",
        priority=0.9,
        hour=0.6,
        peak_hour=7,
    ),
    Person(
        name="Noor",
        habit="night owl: small things, late in the evening",
        tasks=(
            Task("noor-1", "Reply to Jonas", 1, 2),
            Task("noor-2", "Ten minutes of guitar", 1, 1),
            Task("noor-3", "Put the laundry away", 2, 3, 1),
            Task("noor-4", "Write the thesis outline", 4, 5),
            Task("noor-5", "Call the landlord about the heating", 3, 12, 3),
            Task("noor-6", "Read the chapter for Thursday", 2, 7, 2),
        ),
        favourite_version="v3-few-shot",
        priority=-0.9,
        hour=0.6,
        peak_hour=22,
    ),
    Person(
        name="Sam",
        habit="snoozes whatever is overdue, likes a fresh start",
        tasks=(
            Task("sam-1", "Go for a run", 2, 2),
            Task("sam-2", "Plan the week's meals", 3, 7, 1),
            Task("sam-3", "Renew the passport", 4, 30),
            Task("sam-4", "Fix the bicycle light", 2, 10, 4),
            Task("sam-5", "Check in with Mara", 3, 4, 2),
            Task("sam-6", "Back up the laptop", 1, 15, 6),
        ),
        favourite_version="v2-mentor",
        priority=0.2,
        overdue=-0.8,
        snoozes_overdue=0.6,
    ),
    Person(
        name="Mika",
        habit="puts out fires on weekdays, wants quiet at weekends",
        tasks=(
            Task("mika-1", "Review the open pull requests", 3, 1),
            Task("mika-2", "Submit the travel expenses", 2, 4, 1),
            Task("mika-3", "Test the smoke alarms", 4, 12, 3),
            Task("mika-4", "Order new filters", 1, 5, 2),
            Task("mika-5", "Update the on-call notes", 2, 2),
            Task("mika-6", "Pay the bills", 4, 7, 4),
        ),
        favourite_version="v2-mentor",
        overdue=1.2,
        weekend=-0.8,
    ),
)

# The day on which each task, by id, was last done.
LastDone: TypeAlias = Mapping[str, int]


def tasks_on(person: Person, day: int, last_done: LastDone) -> list[Offer]:
    """Return every task of `person` as it stands on `day`, counted from 0."""
    offers = []
    for task in person.tasks:
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
    """Return the mean reward of showing `offer` at `moment`."""
    return float(reaction_probabilities(person, offer, moment) @ _REWARDS)


def react(person: Person, offer: Offer, moment: Moment, rng: np.random.Generator) -> Reaction:
    """Draw what `person` does when shown `offer`."""
    return REACTIONS[int(rng.choice(len(REACTIONS), p=reaction_probabilities(person, offer, moment)))]


def _appeal(person: Person, offer: Offer, moment: Moment) -> float:
    appeal = person.priority * (2 * (offer.priority - 1) / 3 - 1)
    appeal += person.hour * math.cos(2 * math.pi * (moment.hour - person.peak_hour) / 24)
    appeal += person.overdue * (0.5 if offer.is_overdue else -0.5)
    appeal += person.weekend if moment.weekday in WEEKEND else 0.0
    if offer.prompt_version is not None:
        appeal += 0.4 if offer.prompt_version == person.favourite_version else -0.1
    return appeal
