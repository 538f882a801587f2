"""The two policies: which candidate is chosen, and with what probability it was.

The exploration draw is a function of the decision's id alone, so a repeated decision is the same decision.
Sources: LinUCB, Li et al. (2010), Algorithm 1; epsilon-greedy, Sutton and Barto (2018), section 2.2.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.ridge import Ridge, theta, uncertainty

LINUCB: Final = "linucb-v1"
EPSILON_GREEDY: Final = "egreedy-v1"
DIMENSIONS: Final = {LINUCB: 5, EPSILON_GREEDY: 7}


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A decision.

    Attributes:
        index: which row of X was chosen.
        score: what the policy's answer shows for it: theta.x, plus the confidence bound for LinUCB.
        propensities: the probability with which each row was to be chosen, shape (n,), sum 1; > 0 for `index`.
        exploring: whether it was drawn at random.
    """

    index: int
    score: float
    propensities: NDArray[np.float64]
    exploring: bool


def draw(seed: int) -> tuple[float, float]:
    """Return two numbers, uniform in [0, 1), that depend on `seed` alone.

    Built on the bit generator's raw output, whose stream NumPy keeps the same in every release,
    so a draw can be repeated from the log years later.
    """
    first, second = np.random.PCG64(seed).random_raw(2)
    return (int(first) >> 11) * 2.0**-53, (int(second) >> 11) * 2.0**-53


def choose_linucb(state: Ridge, X: NDArray[np.float64], alpha: float) -> Choice:
    """Choose the row with the highest upper confidence bound, the first among equals.

    score = theta.x + alpha sqrt(x^T A^-1 x).

    Args:
        state: the user's model, dimension d.
        X: candidates' features, shape (n, d), n >= 1.
        alpha: width of the bound, >= 0.
    """
    scores = X @ theta(state) + alpha * uncertainty(state, X)
    best = int(np.argmax(scores))
    return Choice(best, float(scores[best]), _certain(best, len(X)), exploring=False)


def choose_epsilon_greedy(state: Ridge, X: NDArray[np.float64], epsilon: float, seed: int) -> Choice:
    """Choose any row with probability epsilon, else the one with the highest theta.x, the first among equals.

    The greedy row can come out of the random draw too, so its propensity is 1 - epsilon + epsilon/n and
    that of every other row epsilon/n.

    Args:
        state: the user's model, dimension d.
        X: candidates' features, shape (n, d), n >= 1.
        epsilon: share of random choices, 0 <= epsilon <= 1.
        seed: the decision's id as a number.
    """
    scores = X @ theta(state)
    greedy = int(np.argmax(scores))
    whether, which = draw(seed)
    exploring = whether < epsilon
    chosen = int(which * len(X)) if exploring else greedy
    propensities = epsilon / len(X) + (1 - epsilon) * _certain(greedy, len(X))
    return Choice(chosen, float(scores[chosen]), propensities, exploring)


def _certain(index: int, n: int) -> NDArray[np.float64]:
    """Return the distribution over n rows that always gives `index`."""
    propensities = np.zeros(n)
    propensities[index] = 1.0
    return propensities
