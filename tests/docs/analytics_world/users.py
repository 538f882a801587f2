"""Sixty simulated users and their reactions: pure, so that the worth of each prompt version is known exactly.

v4-reminder writes about the task that has waited longest, v5-first-step about the most important one. Users do more of
the tips by v5-first-step, whatever the day. But on a day with an overdue task they do most of the tips by both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Final

from demo.reactions import Reaction
from oo_ml.domain.features import Fields
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests.candidates import build_task

FIRST_DAY: Final = date(2026, 9, 28)
WEEKS: Final = 8
REMINDER: Final = "v4-reminder"
FIRST_STEP: Final = "v5-first-step"
VERSIONS: Final = (REMINDER, FIRST_STEP)

_HOURS: Final = (8, 13, 20)
# The probability that a tip is done, by version: on a quiet day, and on a day with an overdue task.
_DONE: Final = {REMINDER: (0.04, 0.76), FIRST_STEP: (0.40, 0.80)}
_OVERDUE_DAYS: Final = 0.4
_BY_PLATFORM: Final = {"ios": 0.04, "android": -0.04}
_BY_HOUR: Final = dict(zip(_HOURS, (0.03, 0.0, -0.03), strict=True))
# The reactions to a tip that is not done, with their cumulative probabilities.
_OTHERWISE: Final = (
    (0.25, Reaction.HELPFUL),
    (0.55, Reaction.SNOOZE),
    (0.70, Reaction.NOT_HELPFUL),
    (1.0, Reaction.DISMISS),
)
_SILENT: Final = 0.1
_LONGEST_DELAY: Final = timedelta(days=5)


@dataclass(frozen=True, slots=True)
class User:
    """A user, and the policy that decides for this user."""

    number: int

    @property
    def platform(self) -> str:
        """The platform of the client."""
        return "ios" if self.number <= 30 else "android"

    @property
    def user_id(self) -> str:
        """The id that the service is told."""
        return f"{self.platform}-{self.number:02}"

    @property
    def policy(self) -> str:
        """LinUCB for users with an odd number, epsilon-greedy for the others."""
        return LINUCB if self.number % 2 else EPSILON_GREEDY


USERS: Final = tuple(User(number) for number in range(1, 61))


@dataclass(frozen=True, slots=True)
class Situation:
    """A time at which a user is shown a tip; `overdue_days` is 0 on a quiet day."""

    user: User
    at: datetime
    overdue_days: int

    def task(self, version: str) -> Fields:
        """Return the task that a version writes about."""
        if version == REMINDER:
            return build_task(is_overdue=self.overdue_days > 0, task_age_days=self.overdue_days, priority=1)
        return build_task(is_overdue=False, task_age_days=0, priority=4)

    def done_probability(self, version: str) -> float:
        """Return the probability that a tip by this version is done."""
        likes = _DONE[version][self.overdue_days > 0]
        return (1 - _SILENT) * (likes + _BY_PLATFORM[self.user.platform] + _BY_HOUR[self.at.hour])

    def react(self, version: str, random: Random) -> tuple[Reaction, timedelta] | None:
        """Draw the reaction to a tip by this version, and its delay; None: there is no reaction."""
        first, second = random.random(), random.random()
        # Half of the reactions come within a quarter of an hour, one in a hundred after a day.
        delay = timedelta(seconds=60 + int(900 * (1 / (1 - random.random()) - 1) ** 1.15))
        if first >= 1 - _SILENT or delay >= _LONGEST_DELAY:
            return None
        if first < self.done_probability(version):
            return Reaction.DONE, delay
        return next(reaction for cumulative, reaction in _OTHERWISE if second < cumulative), delay


def draw_situations(random: Random) -> list[list[Situation]]:
    """Draw the rounds of the weeks, in order, each with a situation for every user."""
    rounds = []
    for day in range(7 * WEEKS):
        midnight = datetime.combine(FIRST_DAY, datetime.min.time(), UTC) + timedelta(days=day)
        overdue = [1 + int(5 * random.random()) if random.random() < _OVERDUE_DAYS else 0 for _ in USERS]
        rounds += [
            [
                Situation(user, midnight + timedelta(hours=hour, seconds=int(3600 * random.random())), days)
                for user, days in zip(USERS, overdue, strict=True)
            ]
            for hour in _HOURS
        ]
    return rounds


def compute_done_rates(rounds: Sequence[Sequence[Situation]]) -> dict[str, float]:
    """Return the share of tips that would have been done if one version had written all of them."""
    shown = [situation for situations in rounds for situation in situations]
    return {
        version: sum(situation.done_probability(version) for situation in shown) / len(shown) for version in VERSIONS
    }
