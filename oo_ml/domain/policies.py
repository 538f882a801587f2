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
    """A decision among n candidates.

    Attributes:
        index: which row of X was chosen.
        exploit: theta.x of each row, shape (n,).
        explore: what the policy adds for its uncertainty, shape (n,): the width of LinUCB's bound, else 0.
        propensities: the probability with which each row was to be chosen, shape (n,), sum 1; > 0 for `index`.
        exploring: whether it was drawn at random.
    """

    index: int
    exploit: NDArray[np.float64]
    explore: NDArray[np.float64]
    propensities: NDArray[np.float64]
    exploring: bool

    @property
    def score(self) -> float:
        """What the policy's answer shows for the row chosen: exploit + explore."""
        # + 0.0: a negative zero would not survive JSON.
        return float(self.exploit[self.index] + self.explore[self.index]) + 0.0


def draw(seed: int) -> tuple[float, float]:
    """Return two numbers, uniform in [0, 1), that depend on `seed` alone.

    Built on the bit generator's raw output, whose stream NumPy keeps the same in every release,
    so a draw can be repeated from the log years later.
    """
    first, second = np.random.PCG64(seed).random_raw(2)
    return (int(first) >> 11) * 2.0**-53, (int(second) >> 11) * 2.0**-53


def choose_linucb(
    state: Ridge, X: NDArray[np.float64], alpha: float, exploration: float = 0.0, seed: int = 0
) -> Choice:
    """Choose the row with the highest upper confidence bound, the first among equals.

    score = theta.x + alpha sqrt(x^T A^-1 x). With `exploration` e > 0 it is the mixture (1 - e) argmax + e uniform, so
    that every row has a propensity and the log can tell what another policy would have earned.

    Args:
        state: the user's model, dimension d.
        X: candidates' features, shape (n, d), n >= 1.
        alpha: width of the bound, >= 0.
        exploration: share of random choices, 0 <= e <= 1.
        seed: the decision's id as a number.
    """
    return _choose(X @ theta(state), alpha * uncertainty(state, X), exploration, seed)


def choose_epsilon_greedy(state: Ridge, X: NDArray[np.float64], epsilon: float, seed: int) -> Choice:
    """Choose any row with probability epsilon, else the one with the highest theta.x, the first among equals.

    Args:
        state: the user's model, dimension d.
        X: candidates' features, shape (n, d), n >= 1.
        epsilon: share of random choices, 0 <= epsilon <= 1.
        seed: the decision's id as a number.
    """
    return _choose(X @ theta(state), np.zeros(len(X)), epsilon, seed)


def _choose(exploit: NDArray[np.float64], explore: NDArray[np.float64], exploration: float, seed: int) -> Choice:
    """Choose uniformly with probability `exploration`, else the highest exploit + explore.

    The highest can come out of the random draw too: its propensity is 1 - e + e/n, that of every other row e/n.
    """
    n = len(exploit)
    highest = int(np.argmax(exploit + explore))
    whether, which = draw(seed)
    exploring = whether < exploration
    propensities = np.full(n, exploration / n)
    # The sum may round past one.
    propensities[highest] = min(1 - exploration + exploration / n, 1.0)
    return Choice(int(which * n) if exploring else highest, exploit, explore, propensities, exploring)
