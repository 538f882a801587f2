"""The feature vectors of the contract.

x5 = [sin(2 pi h/24), cos(2 pi h/24), is_overdue, min(age, 30)/30, (priority - 1)/3]
x7 = x5 + [sin(2 pi dow/7), cos(2 pi dow/7)]
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LABELS = ("hour_sin", "hour_cos", "is_overdue", "task_age", "priority", "dow_sin", "dow_cos")
MAX_AGE_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class Moment:
    """When a tip is shown: hour of the day 0..23 and day of the week 0..6."""

    hour_of_day: int
    day_of_week: int


@dataclass(frozen=True, slots=True)
class Task:
    """What is known of the task behind a candidate: days since due may be any finite number, priority is 1..4."""

    is_overdue: bool
    task_age_days: float
    priority: int


def encode(moment: Moment, tasks: Sequence[Task], dimension: int) -> NDArray[np.float64]:
    """Return the feature matrix X of `tasks` at `moment`, one row a task.

    Args:
        moment: hour and day, the same for every row.
        tasks: n tasks; an age outside 0..30 days is clipped to it.
        dimension: 5, or 7 to include the day of the week.

    Returns:
        float64 array of shape (n, dimension), columns as in LABELS.
    """
    hour_angle = 2 * math.pi * moment.hour_of_day / 24
    day_angle = 2 * math.pi * moment.day_of_week / 7
    X = np.empty((len(tasks), len(LABELS)))
    X[:, 0] = math.sin(hour_angle)
    X[:, 1] = math.cos(hour_angle)
    X[:, 2] = [task.is_overdue for task in tasks]
    X[:, 3] = np.clip([task.task_age_days for task in tasks], 0.0, MAX_AGE_DAYS) / MAX_AGE_DAYS
    X[:, 4] = (np.array([task.priority for task in tasks]) - 1) / 3
    X[:, 5] = math.sin(day_angle)
    X[:, 6] = math.cos(day_angle)
    return np.ascontiguousarray(X[:, :dimension])
