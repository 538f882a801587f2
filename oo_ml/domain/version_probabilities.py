"""Experiments with prompt versions: the probability of each version, and the draw of one.

The draw depends on the generation's id and on the probabilities alone. The service stores the same probabilities, so
`prompt_probability` is the probability with which the version was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import fsum
from typing import Final

import numpy as np
from numpy.typing import NDArray

POSTERIOR_DRAWS: Final = 10_000
# Lower bound of each version's probability under Thompson sampling: every version keeps getting rewards.
FLOOR: Final = 0.05
# Makes these draws independent of policies.draw, which is seeded with the same id.
_POSTERIOR: Final = (1,)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Rewards of one prompt version: their mean, in [-1, 1], and their effective number, >= 0."""

    mean_reward: float = 0.0
    rewards: float = 0.0


def pick(probabilities: Sequence[float], uniform: float) -> int:
    """Return the index of the version that `uniform` falls on; each index has its probability.

    Args:
        probabilities: k numbers >= 0 with sum 1.
        uniform: a number drawn uniformly from [0, 1).
    """
    for index, end in enumerate(accumulate(probabilities)):
        if uniform < end:
            return index
    # The sum may round to less than one.
    return max(index for index, probability in enumerate(probabilities) if probability > 0)


def normalize(weights: Sequence[float]) -> list[float]:
    """Return k weights (finite, >= 0, not all 0) as k probabilities."""
    # The sum of the weights may be beyond the largest float.
    largest = max(weights)
    scaled = [weight / largest for weight in weights]
    total = fsum(scaled)
    return [weight / total for weight in scaled]


def estimate_thompson(evidence: Sequence[Evidence], seed: int) -> list[float]:
    """Return the probability with which Thompson sampling picks each of k versions.

    A reward r in [-1, 1] counts as (1 + r) / 2 of a success. After n rewards with the mean m, scaled to [0, 1], the
    posterior is Beta(1 + n m, 1 + n (1 - m)). Source: Agrawal and Goyal (2012), "Analysis of Thompson Sampling for the
    Multi-armed Bandit Problem", Algorithm 2, in expectation over its coin.

    The probability p' that a version is the best is estimated by its share of POSTERIOR_DRAWS. The version is picked
    with probability f + (1 - k f) p'. The floor f is FLOOR, or 1 / k if that is less.

    Args:
        evidence: rewards of each version.
        seed: seed of the posterior draws; another seed changes the estimate a little.

    Returns:
        k numbers with sum 1.
    """
    k = len(evidence)
    floor = min(FLOOR, 1 / k)
    best = _count_best(evidence, seed) / POSTERIOR_DRAWS
    # The sum may round past one.
    return [min(p, 1.0) for p in (floor + (1 - k * floor) * best).tolist()]


def _count_best(evidence: Sequence[Evidence], seed: int) -> NDArray[np.float64]:
    """Count the draws, of POSTERIOR_DRAWS, in which each version is the best: shape (k,)."""
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=_POSTERIOR)))
    n = np.array([version.rewards for version in evidence])
    # Rounding may have moved a mean past its bounds.
    m = np.clip([(1 + version.mean_reward) / 2 for version in evidence], 0, 1)
    draws = random.beta(1 + n * m, 1 + n * (1 - m), (POSTERIOR_DRAWS, len(evidence)))
    return np.bincount(draws.argmax(axis=1), minlength=len(evidence)).astype(np.float64)
