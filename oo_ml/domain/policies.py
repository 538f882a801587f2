"""The two policies: the choice among candidates, and the propensity of each candidate.

The exploration draw depends on the decision's id alone, so a repeated request gets the same decision.
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
class PolicyChoice:
    """The result of one decision among n candidates.

    Attributes:
        index: the chosen row of X.
        exploit: theta.x of each row, shape (n,).
        explore: the bonus for uncertainty, shape (n,): the width of LinUCB's bound; 0 for epsilon-greedy.
        propensities: the probability of each row to be chosen, shape (n,), sum 1; > 0 for `index`.
        exploring: True if the row was drawn at random.
    """

    index: int
    exploit: NDArray[np.float64]
    explore: NDArray[np.float64]
    propensities: NDArray[np.float64]
    exploring: bool

    @property
    def score(self) -> float:
        """The score of the chosen row: exploit + explore."""
        # + 0.0 turns a negative zero, which JSON would not keep, into 0.
        return float(self.exploit[self.index] + self.explore[self.index]) + 0.0


def draw(seed: int) -> tuple[float, float]:
    """Return two numbers, uniform in [0, 1), that depend on `seed` alone.

    NumPy keeps the raw output of a bit generator the same in every release. So the draw of a stored decision can be
    repeated years later.
    """
    first, second = np.random.PCG64(seed).random_raw(2)
    return (int(first) >> 11) * 2.0**-53, (int(second) >> 11) * 2.0**-53


@dataclass(frozen=True, slots=True)
class PolicyParameters:
    """Parameters of a policy.

    With probability `exploration` the policy draws a candidate uniformly. Otherwise it chooses the candidate with the
    highest theta.x + alpha sqrt(x^T A^-1 x). With exploration 0 this is LinUCB as in its paper. With exploration above
    0 every candidate has a propensity above 0, so other policies can be evaluated from the log.

    Attributes:
        exploration: probability of a random draw, from 0 to 1; the epsilon of epsilon-greedy.
        alpha: width of the bound, >= 0; None for epsilon-greedy, which has no bound.
    """

    exploration: float
    alpha: float | None = None


def choose(  # noqa: PLR0913, PLR0917 - the arrays of m decisions
    parameters: PolicyParameters,
    models: Ridge,
    which: Sequence[int],
    X: NDArray[np.float64],
    counts: Sequence[int],
    seeds: Sequence[int],
) -> list[PolicyChoice]:
    """Make m decisions at once, each with one of k users' models.

    The first of several candidates with the same highest bound wins. Each decision is, bit for bit, the same as if it
    were made alone.

    Args:
        parameters: parameters of the policy.
        models: a stack of k models of dimension d.
        which: index of the model of each decision, m numbers below k.
        X: features of the candidates of all decisions, in the order of the decisions, shape (sum of counts, d).
        counts: number of candidates of each decision, m numbers >= 1.
        seeds: the id of each decision as a number.
    """
    model = np.repeat(which, counts)
    # einsum sums each row by itself. In a matrix product the order of additions may depend on the other rows.
    exploit = np.einsum("nd,nd->n", X, theta(models)[model])
    explore = np.zeros(len(X)) if parameters.alpha is None else parameters.alpha * uncertainty(models, model, X)
    bounds = exploit + explore
    ends = np.cumsum(counts)
    choices = []
    for n, end, seed in zip(counts, ends.tolist(), seeds, strict=True):
        own = slice(end - n, end)
        highest = int(bounds[own].argmax())
        # The random draw may choose the highest row too: its propensity is 1 - e + e/n, and e/n for each other row.
        propensities = np.full(n, parameters.exploration / n)
        # The sum may round to more than one.
        propensities[highest] = min(1 - parameters.exploration + parameters.exploration / n, 1.0)
        first, second = draw(seed) if parameters.exploration else (1.0, 0.0)
        exploring = first < parameters.exploration
        index = int(second * n) if exploring else highest
        choices.append(PolicyChoice(index, exploit[own], explore[own], propensities, exploring))
    return choices
