"""Ridge regression of LinUCB: what follows from a belief about theta.

Source: Li, Chu, Langford, Schapire (2010), "A Contextual-Bandit Approach to Personalized News
Article Recommendation", Algorithm 1, one disjoint model a user.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Of the matrices that `whiten` holds at once: 32 MB.
_MOST_NUMBERS: Final = 4_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """The belief about theta of one user: N(A^-1 b, A^-1), if the variance of noise is 1; immutable.

    Attributes:
        A: the precision, float64, shape (d, d), symmetric positive definite. Without a population it is I + the sum of
            x x^T over the rewarded decisions.
        b: A times the mean, float64, shape (d,). Without a population it is the sum of r x.
    """

    A: NDArray[np.float64]
    b: NDArray[np.float64]

    @property
    def dimension(self) -> int:
        """The number of features d."""
        return int(self.b.shape[-1])


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
    parts = theta(Ridge(models.A, np.broadcast_to(b, models.b.shape)))
    return np.asarray(np.einsum("nd,nd->n", x, parts[list(model)]), np.float64)


def intervals(state: Ridge, level: float = 0.95) -> NDArray[np.float64]:
    """Return the interval of each number of theta, shape (d, 2): theta_i -+ z sqrt((A^-1)_ii).

    These are the central intervals of N(A^-1 b, A^-1).

    Args:
        state: a model of dimension d.
        level: the probability of each interval, in (0, 1); z is 1.96 for 0.95.
    """
    # With A = L L^T, A^-1 = L^-T L^-1, and its diagonal has the squared lengths of the columns of L^-1.
    inverse_root = np.linalg.solve(np.linalg.cholesky(state.A), np.eye(state.dimension))
    widths = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(np.einsum("ij,ij->j", inverse_root, inverse_root))
    center = theta(state)
    return np.stack([center - widths, center + widths], axis=1)


def whiten(models: Ridge, model: NDArray[np.intp], X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return L^-1 x of each row of X, shape (n, d), with A = L L^T.

    Its length is sqrt(x^T A^-1 x), the uncertainty about the reward of x (line 9): so rounding can't make it the root
    of a negative number. And (L^-1 x).z is the deviation of theta.x for a theta drawn from N(A^-1 b, A^-1), with z
    drawn from N(0, I).

    Args:
        models: a stack of k models of dimension d.
        model: index of the model of each row, shape (n,).
        X: features, shape (n, d).
    """
    inverse_roots = np.linalg.inv(np.linalg.cholesky(models.A))
    # In parts, because each row takes d x d numbers.
    rows = max(1, _MOST_NUMBERS // models.dimension**2)
    parts = [
        np.einsum("nij,nj->ni", inverse_roots[model[start : start + rows]], X[start : start + rows])
        for start in range(0, len(X), rows)
    ]
    whitened: NDArray[np.float64] = np.concatenate([X[:0], *parts])
    return whitened
