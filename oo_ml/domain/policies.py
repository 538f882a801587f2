"""Policies: the choice among candidates, and the propensity of each candidate.

A policy is its features and its rule, both data (oo_ml/definitions). The draw of a decision depends on its id alone, so
a repeated request gets the same decision.
Sources: LinUCB, Li et al. (2010), Algorithm 1; epsilon-greedy, Sutton and Barto (2018), section 2.2; Thompson sampling,
Agrawal and Goyal (2013), "Thompson Sampling for Contextual Bandits with Linear Payoffs".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from itertools import accumulate
from statistics import NormalDist
from struct import Struct
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.features import Features
from oo_ml.domain.population import Population, Prior
from oo_ml.domain.ridge import Ridge, stack, theta, whiten

# The policies of the contract.
LINUCB: Final = "linucb-v1"
EPSILON_GREEDY: Final = "egreedy-v1"
OF_CONTRACT: Final = (LINUCB, EPSILON_GREEDY)

# Points at which the candidates are compared if a rule has a sigma. Each propensity is then a multiple of 1/VOTES, but
# for the floor.
VOTES: Final = 64
_HALVES: Final = Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Rule:
    """Rule by which a policy chooses, for a user whose belief about theta is N(m, V).

    With probability `exploration` the policy draws a candidate uniformly. Otherwise it takes part in a vote: each of
    VOTES fixed points z_k of N(0, I) is one vote, for the candidate with the highest

        m.x + alpha sqrt(x^T V x) + sigma (L z_k).x,    V = L L^T,

    and a candidate is drawn with its share of the votes. With sigma 0 all votes are for one candidate. So LinUCB has
    alpha alone, epsilon-greedy exploration alone, and Thompson sampling sigma 1. With exploration above 0 every
    candidate has a propensity above 0, so other policies can be evaluated from the log.

    Attributes:
        exploration: probability of a random draw, from 0 to 1; the epsilon of epsilon-greedy.
        alpha: width of the bound, >= 0; None: no bound.
        sigma: width of the vote, >= 0.
    """

    exploration: float
    alpha: float | None = None
    sigma: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A published policy.

    Attributes:
        rule: that of the definition, unless settings gave it another one.
        definition: the document as it was published, JSON.
        population: what its users share, if it is a pooled policy; None: each user is learned about alone.
        is_retired: it makes no more decisions, and learns from late rewards.
    """

    name: str
    features: Features
    rule: Rule
    definition: Mapping[str, Any]
    population: Population | None = None
    is_retired: bool = False

    def fresh(self) -> Evidence:
        """Return the evidence about a user before their first reward."""
        d = self.features.dimension
        return Evidence.alone(d) if self.population is None else Evidence.pooled(d)

    @property
    def stranger(self) -> Ridge:
        """The belief about a user before their first reward."""
        d = self.features.dimension
        return Ridge(np.eye(d), np.zeros(d)) if self.population is None else self.population.prior.belief

    def weigh(self, decided_at: datetime) -> float | None:
        """Return the weight of the reward for a decision; None: every reward counts the same."""
        return None if self.population is None else self.population.weigh(decided_at)

    def believe(
        self, evidence: Sequence[Evidence], times: Sequence[datetime], priors: Sequence[Prior] | None = None
    ) -> Ridge:
        """Return the beliefs about m users at m times, a stack.

        Args:
            evidence: sums of this policy.
            times: of the decisions, m.
            priors: the versions of the prior to start from, m; None: the latest. Only a pooled policy has one.
        """
        if self.population is None:
            return stack([Ridge(one.A, one.b) for one in evidence])
        return self.population.believe(evidence, times, priors)


@dataclass(frozen=True, slots=True, eq=False)
class PolicyChoice:
    """The result of one decision among n candidates.

    Attributes:
        index: the chosen row of X.
        exploit: theta.x of each row, shape (n,).
        explore: the bonus for uncertainty, shape (n,): the width of the bound; 0 without a bound.
        propensities: the probability of each row to be chosen, shape (n,), sum 1; > 0 for `index`.
        exploring: True if the row was drawn uniformly, whatever its score. A vote draws nothing uniformly.
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
    """Return two numbers, uniform in [0, 1), that depend on `seed` alone, the id of a decision as a number.

    Of the SHA-256 of the id's 16 bytes, they are the first 53 bits of the first 8 bytes, and those of the next 8. So
    the draw of a stored decision can be repeated years later, and in any language.
    """
    first, second = _HALVES.unpack(sha256(seed.to_bytes(16)).digest()[:16])
    return (first >> 11) * 2.0**-53, (second >> 11) * 2.0**-53


@cache
def fixed_points(dimension: int) -> NDArray[np.float64]:
    """Return the points of the vote, shape (VOTES, dimension): the same ones for every decision.

    They are spread evenly over N(0, I): an additive recurrence in the unit cube, mapped by the inverse of the normal
    distribution; each point has its mirror image, so that their mean is 0. Roberts (2018), "The Unreasonable
    Effectiveness of Quasirandom Sequences", the root of x^(d+1) = x + 1.
    """
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (dimension + 1))
    normal = NormalDist()
    points = np.array(
        [
            [normal.inv_cdf((0.5 + place * root ** -(axis + 1)) % 1.0) for axis in range(dimension)]
            for place in range(1, VOTES // 2 + 1)
        ]
    )
    return np.concatenate([points, -points])


def choose(  # noqa: PLR0913, PLR0917 - the arrays of m decisions
    rule: Rule,
    models: Ridge,
    which: Sequence[int],
    X: NDArray[np.float64],
    counts: Sequence[int],
    seeds: Sequence[int],
) -> list[PolicyChoice]:
    """Make m decisions at once, each with one of k users' models.

    The first of several candidates with the same highest score wins, also in each vote. Each decision is, bit for bit,
    the same as if it were made alone.

    Args:
        rule: how to choose.
        models: a stack of k models of dimension d.
        which: index of the model of each decision, m numbers below k.
        X: features of the candidates of all decisions, in the order of the decisions, shape (sum of counts, d).
        counts: number of candidates of each decision, m numbers >= 1.
        seeds: the id of each decision as a number.
    """
    exploit, explore, votes = _score(rule, models, which, X, counts)
    choices = []
    for n, end, seed in zip(counts, accumulate(counts), seeds, strict=True):
        own = slice(end - n, end)
        # In the order of the candidates, so that the shares and the draw tell the choice.
        winners = np.sort(votes[own].argmax(axis=0))
        # A random draw may choose any row, so each has e/n besides its share of 1 - e. The sum may round to more.
        shares = np.bincount(winners, minlength=n) * ((1 - rule.exploration) / len(winners))
        propensities = np.minimum(shares + rule.exploration / n, 1.0)
        first, second = draw(seed)
        exploring = first < rule.exploration
        index = int(second * n) if exploring else int(winners[int(second * len(winners))])
        choices.append(PolicyChoice(index, exploit[own], explore[own], propensities, exploring))
    return choices


class Recomputed(NamedTuple):
    """Values that the n candidates of m decisions must have had, up to rounding.

    Attributes:
        exploit: theta.x of each candidate, shape (n,).
        least, most: the range of each candidate's propensity, shape (n,): one number, but for candidates that tie.
    """

    exploit: NDArray[np.float64]
    least: NDArray[np.float64]
    most: NDArray[np.float64]


def recompute(  # noqa: PLR0913, PLR0917 - the arrays of m decisions
    rule: Rule,
    models: Ridge,
    which: Sequence[int],
    X: NDArray[np.float64],
    counts: Sequence[int],
    rounding: float,
) -> Recomputed:
    """Recompute decisions of `choose`, which another machine may have made.

    Machines round differently. So where other candidates come within rounding of the highest score v, that is within
    `rounding` (1 + |v|), each of them may have won, in each vote. The other arguments are those of `choose`.
    """
    exploit, _, scores = _score(rule, models, which, X, counts)
    starts = list(accumulate(counts[:-1], initial=0))
    highest = np.repeat(np.maximum.reduceat(scores, starts), counts, axis=0)
    # A NaN, from a model that was tampered with, ties with nothing.
    ties = scores >= highest - rounding * (1 + np.abs(highest))
    alone = np.repeat(np.add.reduceat(ties.astype(np.intp), starts), counts, axis=0) == 1
    uniform = rule.exploration / np.repeat(counts, counts)
    least = (1 - rule.exploration) * (ties & alone).mean(axis=1) + uniform
    most = (1 - rule.exploration) * ties.mean(axis=1) + uniform
    return Recomputed(exploit, np.minimum(least, 1.0), np.minimum(most, 1.0))


def _score(
    rule: Rule, models: Ridge, which: Sequence[int], X: NDArray[np.float64], counts: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return exploit and explore of each row, shape (n,), and its score in each vote, shape (n, VOTES).

    Without a sigma all votes are the same: there is one, shape (n, 1).
    """
    # Each row is computed by itself. In a matrix product the order of additions may depend on the other rows.
    if rule.sigma:
        # theta.x = (L^-1 x).(L^-1 b): what a vote needs gives the mean without solving for theta.
        whitened = whiten(models, which, X, counts)
        exploit = np.vecdot(whitened, np.repeat(np.matvec(models.inverse_roots, models.b)[which], counts, axis=0))
    else:
        exploit = np.vecdot(X, np.repeat(theta(models)[which], counts, axis=0))
        if rule.alpha is None:
            return exploit, np.zeros(len(X)), exploit[:, np.newaxis]
        whitened = whiten(models, which, X, counts)
    explore = np.zeros(len(X)) if rule.alpha is None else rule.alpha * np.sqrt(np.vecdot(whitened, whitened))
    bounds = (exploit + explore)[:, np.newaxis]
    if not rule.sigma:
        return exploit, explore, bounds
    # Half of the points are enough: the others are their mirror images.
    half = VOTES // 2
    spread = np.matvec(rule.sigma * fixed_points(models.dimension)[:half], whitened)
    votes = np.empty((len(X), VOTES))
    np.add(bounds, spread, out=votes[:, :half])
    np.subtract(bounds, spread, out=votes[:, half:])
    return exploit, explore, votes
