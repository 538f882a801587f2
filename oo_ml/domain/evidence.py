"""Evidence: the sums over a user's rewards from which a policy knows the user. They are sums, and never an inverse.

So rounding errors don't build up, and the order in which rewards arrive makes no difference but for rounding.
"""

from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The sufficient statistics of one user's rewards; immutable.

    Each reward r for the features x has a weight g; see domain/population.py. Unless the policy is pooled, g is 1.

    Attributes:
        A: the sum of g x x^T, float64, shape (d, d); plus I unless the policy is pooled.
        b: the sum of g r x, float64, shape (d,).
        weight: the sum of g; None unless the policy is pooled.
        squares: the sum of g r^2; None like `weight`.
    """

    A: NDArray[np.float64]
    b: NDArray[np.float64]
    weight: float | None = None
    squares: float | None = None

    @classmethod
    @cache
    def alone(cls, dimension: int) -> Self:
        """Return the evidence before the first reward of a user whose policy is not pooled: A = I, b = 0."""
        return cls(_constant(np.eye(dimension)), _constant(np.zeros(dimension)))

    @classmethod
    @cache
    def pooled(cls, dimension: int) -> Self:
        """Return the evidence before the first reward of a user of a pooled policy: all sums are 0."""
        return cls(_constant(np.zeros((dimension, dimension))), _constant(np.zeros(dimension)), 0.0, 0.0)

    @property
    def dimension(self) -> int:
        """The number of features d."""
        return int(self.b.shape[-1])

    def fresh(self) -> Self:
        """Return the evidence of the same policy before the first reward."""
        return self.alone(self.dimension) if self.weight is None else self.pooled(self.dimension)


def observe(before: Evidence, x: NDArray[np.float64], reward: float, weight: float = 1.0) -> Evidence:
    """Add a reward for the features `x`: A + g x x^T and b + g r x (Li et al., 2010, Algorithm 1, lines 12 and 13).

    Args:
        before: the evidence before, of dimension d.
        x: features of the tip that was shown, shape (d,).
        reward: finite number in [-1, 1].
        weight: g, > 0.
    """
    A, b = before.A + weight * np.outer(x, x), before.b + weight * reward * x
    return _count(before, A, b, weight, weight * reward**2)


def adjust(before: Evidence, x: NDArray[np.float64], reward: float, previous: float, weight: float = 1.0) -> Evidence:
    """Let another reward count for `x`: b + g (r - r') x, and A unchanged.

    Args:
        before: the evidence before, of dimension d, which contains the reward r'.
        x: features of the observed reward, shape (d,).
        reward: r, in [-1, 1].
        previous: r', in [-1, 1].
        weight: g of the observed reward.
    """
    b = before.b + weight * (reward - previous) * x
    return _count(before, before.A, b, 0.0, weight * (reward**2 - previous**2))


def forget(before: Evidence, x: NDArray[np.float64], reward: float, weight: float = 1.0) -> Evidence:
    """Remove a reward for the features `x`: A - g x x^T and b - g r x, the inverse of `observe`.

    The result is exact except for rounding in the last bits of the sums.

    Args:
        before: the evidence before, of dimension d, which contains the reward.
        x: features of the tip that was shown, shape (d,).
        reward: the reward to remove, in [-1, 1].
        weight: g of the reward.
    """
    A, b = before.A - weight * np.outer(x, x), before.b - weight * reward * x
    return _count(before, A, b, -weight, -weight * reward**2)


def _count(before: Evidence, A: NDArray[np.float64], b: NDArray[np.float64], weight: float, squares: float) -> Evidence:
    if before.weight is None or before.squares is None:
        return Evidence(A, b)
    return Evidence(A, b, before.weight + weight, before.squares + squares)


def _constant(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `values`, which can't be changed any more: all users share them."""
    values.flags.writeable = False
    return values
