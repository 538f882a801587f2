"""Intervals over groups of users, computed naively."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.evaluation.student import t95

Numbers = NDArray[np.float64]


def find_group(user_id: str) -> int:
    """Return the group of a user, as analytics.user_group has it."""
    return sha256(user_id.encode()).digest()[0] % 16


def compute_error(e: Numbers, groups: Sequence[int]) -> float | None:
    """Return the root of G / (G - 1) times the sum of squares of the sums of e by group; None for one group.

    Args:
        e: the part of each decision in the error of an estimate, which adds up to 0, shape (n,).
        groups: the group of each decision, n of them.
    """
    totals = np.array([e[np.array(groups) == group].sum() for group in set(groups)])
    if len(totals) < 2:
        return None
    return float(np.sqrt(len(totals) / (len(totals) - 1) * (totals**2).sum()))


def build_interval(name: str, value: float | None, e: Numbers, groups: Sequence[int]) -> dict[str, float | None]:
    """Return an estimate and the ends of its interval by name."""
    error = compute_error(e, groups)
    if value is None or error is None:
        return {name: value, f"{name}_low": None, f"{name}_high": None}
    margin = t95(len(set(groups)) - 1) * error
    return {name: value, f"{name}_low": value - margin, f"{name}_high": value + margin}


def compute_wilson(rate: float, e: Numbers, groups: Sequence[int], most: float) -> tuple[Any, Any]:
    """Return Wilson's interval of a rate, with the number of independent cases that have the same standard error."""
    error = compute_error(e, groups)
    if error is None:
        return None, None
    n = min(rate * (1 - rate) / error**2, most) if 0 < rate < 1 and error > 1e-9 else most
    square = t95(len(set(groups)) - 1) ** 2
    low, high = np.sort(np.roots([1 + square / n, -2 * rate - square / n, rate**2]).real)
    return max(low, 0), min(high, 1)
