"""The feature vectors of the contract."""

import math

import numpy as np
import pytest

from oo_ml.domain.features import LABELS, Moment, Task, encode

MOMENT = Moment(hour_of_day=7, day_of_week=3)


def test_features_of_the_contract() -> None:
    """Each feature has the value of its formula in the contract."""
    [x] = encode([MOMENT], [Task(is_overdue=True, task_age_days=12.0, priority=3)], dimension=7)
    assert dict(zip(LABELS, x, strict=True)) == pytest.approx(
        {
            "hour_sin": math.sin(2 * math.pi * 7 / 24),
            "hour_cos": math.cos(2 * math.pi * 7 / 24),
            "is_overdue": 1.0,
            "task_age": 12 / 30,
            "priority": 2 / 3,
            "dow_sin": math.sin(2 * math.pi * 3 / 7),
            "dow_cos": math.cos(2 * math.pi * 3 / 7),
        },
        rel=1e-15,
    )


def test_dimension() -> None:
    """The five features are the first five of the seven."""
    tasks = [Task(False, float(age), 1 + age % 4) for age in range(10)]
    assert np.array_equal(encode([MOMENT] * len(tasks), tasks, 5), encode([MOMENT] * len(tasks), tasks, 7)[:, :5])


@pytest.mark.parametrize(
    ("days", "feature"), [(-3.0, 0.0), (-1e300, 0.0), (0.0, 0.0), (15.0, 0.5), (30.0, 1.0), (31.0, 1.0), (1e300, 1.0)]
)
def test_task_age(days: float, feature: float) -> None:
    """The age of a task is clipped to 0..30 days."""
    [x] = encode([MOMENT], [Task(False, days, 1)], 5)
    assert x[LABELS.index("task_age")] == feature
