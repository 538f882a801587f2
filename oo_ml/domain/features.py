"""The feature vectors of the contract.

x5 = [sin(2 pi h/24), cos(2 pi h/24), is_overdue, min(age, 30)/30, (priority - 1)/3]
x7 = x5 + [sin(2 pi dow/7), cos(2 pi dow/7)]
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

LABELS = ("hour_sin", "hour_cos", "is_overdue", "task_age", "priority", "dow_sin", "dow_cos")
MAX_AGE_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Time at which a tip is shown: hour of the day 0..23, day of the week 0..6."""

    hour_of_day: int
    day_of_week: int


@dataclass(frozen=True, slots=True)
class Task:
    """The task behind a candidate: task_age_days is any finite number, priority is 1..4."""

    is_overdue: bool
    task_age_days: float
    priority: int


class TaskFeatures(Protocol):
    """Any object with the fields of a Task."""

    @property
    def is_overdue(self) -> bool:
        """True if the due date has passed."""

    @property
    def task_age_days(self) -> float:
        """Days since the due date."""

    @property
    def priority(self) -> int:
        """Priority, 1..4."""


def _circle(steps: int) -> NDArray[np.float64]:
    angles = [2 * math.pi * step / steps for step in range(steps)]
    return np.array([[math.sin(angle), math.cos(angle)] for angle in angles])


_HOURS: Final = _circle(24)
_DAYS: Final = _circle(7)


def encode(moments: Sequence[Moment], tasks: Sequence[TaskFeatures], dimension: int) -> NDArray[np.float64]:
    """Return the feature matrix X of n tasks.

    Args:
        moments: one for each task.
        tasks: ages are clipped to 0..30 days.
        dimension: 5, or 7 to include the day of the week.

    Returns:
        float64 array of shape (n, dimension), columns as in LABELS.
    """
    X = np.empty((len(tasks), dimension))
    X[:, 0:2] = _HOURS[[moment.hour_of_day for moment in moments]]
    X[:, 2] = [task.is_overdue for task in tasks]
    X[:, 3] = [min(max(task.task_age_days, 0.0), MAX_AGE_DAYS) / MAX_AGE_DAYS for task in tasks]
    X[:, 4] = [(task.priority - 1) / 3 for task in tasks]
    if dimension == len(LABELS):
        X[:, 5:7] = _DAYS[[moment.day_of_week for moment in moments]]
    return X
