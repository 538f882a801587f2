"""Ridge regression of LinUCB: what follows from a belief about theta.

Source: Li, Chu, Langford, Schapire (2010), "A Contextual-Bandit Approach to Personalized News
Article Recommendation", Algorithm 1, one disjoint model a user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ridge:
    """The belief about theta of one user: N(A^-1 b, A^-1), if the variance of noise is 1; immutable.

    Attributes:
        A: the precision, float64, shape (d, d), symmetric positive definite. Unless the policy is pooled it is I + the
            sum of x x^T over the rewarded decisions.
        b: A times the mean, float64, shape (d,). Unless the policy is pooled it is the sum of r x.
    """

    A: NDArray[np.float64]
    b: NDArray[np.float64]

    @property
    def dimension(self) -> int:
        """The number of features d."""
        return int(self.b.shape[-1])

    @cached_property
    def inverse_roots(self) -> NDArray[np.float64]:
        """L^-1 with A = L L^T, shape (d, d); shape (k, d, d) for a stack.

        Raises:
            np.linalg.LinAlgError: A is not positive definite.
        """
        return np.linalg.inv(np.linalg.cholesky(self.A)).astype(np.float64, copy=False)


def stack(states: Sequence[Ridge]) -> Ridge:
    """Stack k states of dimension d for `theta` and `whiten`: A has shape (k, d, d), b has shape (k, d)."""
    return Ridge(np.array([state.A for state in states]), np.array([state.b for state in states]))


def theta(state: Ridge) -> NDArray[np.float64]:
    """Return theta = A^-1 b, shape (d,), by solving A theta = b (line 8); shape (k, d) for a stack."""
    return np.linalg.solve(state.A, state.b[..., np.newaxis])[..., 0].astype(np.float64, copy=False)


def score_part(
    models: Ridge, b: NDArray[np.float64], model: Sequence[int], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the part of theta.x that a part of b gives, shape (n,): theta is linear in b.

    Args:
        models: a stack of k models of dimension d.
        b: the part of each model's b, shape (k, d), or that of all of them, shape (d,).
        model: index of the model of each row, n numbers below k.
        x: features, shape (n, d).
    """
    roots = models.inverse_roots
    parts: NDArray[np.float64] = np.vecdot(x, np.vecmat(np.matvec(roots, b), roots)[list(model)])
    return parts


def intervals(state: Ridge, level: float = 0.95) -> NDArray[np.float64]:
    """Return the interval of each number of theta, shape (d, 2): theta_i -+ z sqrt((A^-1)_ii).

    These are the central intervals of N(A^-1 b, A^-1).

    Args:
        state: a model of dimension d.
        level: the probability of each interval, in (0, 1); z is 1.96 for 0.95.
    """
    # A^-1 = L^-T L^-1, so its diagonal has the squared lengths of the columns of L^-1.
    widths = NormalDist().inv_cdf((1 + level) / 2) * np.linalg.norm(state.inverse_roots, axis=0)
    center = theta(state)
    return np.stack([center - widths, center + widths], axis=1)


def whiten(models: Ridge, which: Sequence[int], X: NDArray[np.float64], counts: Sequence[int]) -> NDArray[np.float64]:
    """Return L^-1 x of each row of X, shape (n, d), with A = L L^T.

    Its length is sqrt(x^T A^-1 x), the uncertainty about the reward of x (line 9): so rounding can't make it the root
    of a negative number. And (L^-1 x).z is the deviation of theta.x for a theta drawn from N(A^-1 b, A^-1), with z
    drawn from N(0, I).

    Args:
        models: a stack of k models of dimension d.
        which: index of the model of each group of rows, m numbers below k.
        X: features, shape (n, d), group by group.
        counts: number of rows of each group, m numbers; their sum is n.
    """
    roots = models.inverse_roots
    whitened = np.empty_like(X)
    for place, n, end in zip(which, counts, accumulate(counts), strict=True):
        np.matvec(roots[place], X[end - n : end], out=whitened[end - n : end])
    return whitened
