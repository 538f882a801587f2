"""The two policies: which candidate is chosen, and with what probability it was.

The exploration draw is a function of the decision's id alone, so a repeated decision is the same decision.
Sources: LinUCB, Li et al. (2010), Algorithm 1; epsilon-greedy, Sutton and Barto (2018), section 2.2.
"""

from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True)
class Rule:
    """How a policy chooses: uniformly with probability `exploration` e, else highest theta.x + alpha sqrt(x^T A^-1 x).

    LinUCB is its paper's rule where `exploration` is 0; more of it gives every candidate a propensity, so that the log
    can tell what another policy would have earned. Epsilon-greedy is the same rule without a bound.

    Attributes:
        exploration: share of random choices, from 0 to 1: epsilon of epsilon-greedy.
        alpha: width of the bound, >= 0; None for a policy without one.
    """

    exploration: float
    alpha: float | None = None


def choose(  # noqa: PLR0913, PLR0917 - m decisions have these parts
    rule: Rule,
    models: Ridge,
    which: Sequence[int],
    X: NDArray[np.float64],
    counts: Sequence[int],
    seeds: Sequence[int],
) -> list[Choice]:
    """Make m decisions, each from one of k users' models, all at once; among equals the first candidate is the highest.

    A decision does not depend, to the last bit, on the others it is made together with.

    Args:
        rule: how.
        models: a stack of k models of dimension d.
        which: the model of each decision, m numbers below k.
        X: the candidates' features, those of the first decision first, shape (sum of counts, d).
        counts: how many candidates each decision has, m numbers >= 1.
        seeds: each decision's id as a number.
    """
    model = np.repeat(which, counts)
    # einsum adds up each row by itself; a matrix product may add in another order when there are other rows.
    exploit = np.einsum("nd,nd->n", X, theta(models)[model])
    explore = np.zeros(len(X)) if rule.alpha is None else rule.alpha * uncertainty(models, model, X)
    bounds = exploit + explore
    ends = np.cumsum(counts)
    choices = []
    for n, end, seed in zip(counts, ends.tolist(), seeds, strict=True):
        own = slice(end - n, end)
        highest = int(bounds[own].argmax())
        # It can come out of the random draw too: its propensity is 1 - e + e/n, that of every other row e/n.
        propensities = np.full(n, rule.exploration / n)
        # The sum may round past one.
        propensities[highest] = min(1 - rule.exploration + rule.exploration / n, 1.0)
        whether, which_one = draw(seed) if rule.exploration else (1.0, 0.0)
        exploring = whether < rule.exploration
        index = int(which_one * n) if exploring else highest
        choices.append(Choice(index, exploit[own], explore[own], propensities, exploring))
    return choices
