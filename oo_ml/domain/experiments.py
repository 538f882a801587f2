"""Experiments with prompt versions: with which probability each is picked, and which one is.

The pick is a function of the generation's id and of the probabilities alone, and these are what is stored: what is
written down as the probability of a version is the probability that it had.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import fsum
from typing import Final

import numpy as np
from numpy.typing import NDArray

POSTERIOR_DRAWS: Final = 10_000
# What each version gets at least while they are judged by their rewards, so that none is given up for good.
FLOOR: Final = 0.05
# Beside policies.draw, which picks by the same id: what it picks from has to be independent of it.
_POSTERIOR: Final = (1,)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a version's rewards: their mean, in [-1, 1], and how many rewards it is worth, >= 0."""

    mean_reward: float = 0.0
    rewards: float = 0.0


def pick(probabilities: Sequence[float], uniform: float) -> int:
    """Return a place with its probability.

    Args:
        probabilities: k numbers >= 0 with sum 1.
        uniform: a number drawn uniformly from [0, 1).
    """
    for place, end in enumerate(accumulate(probabilities)):
        if uniform < end:
            return place
    # The sum may round to less than one.
    return max(place for place, probability in enumerate(probabilities) if probability > 0)


def shares(weights: Sequence[float]) -> list[float]:
    """Return weights, finite, >= 0 and not all 0, as k probabilities."""
    # The sum of the weights themselves may be beyond all numbers.
    largest = max(weights)
    scaled = [weight / largest for weight in weights]
    total = fsum(scaled)
    return [weight / total for weight in scaled]


def thompson(evidence: Sequence[Evidence], seed: int) -> list[float]:
    """Return the probabilities with which Thompson sampling picks each of k versions, none below the floor.

    A reward r in [-1, 1] counts as (1 + r) / 2 of a success, so that after n of them with the mean m, scaled to [0, 1],
    the posterior is Beta(1 + n m, 1 + n (1 - m)): Agrawal and Goyal (2012), "Analysis of Thompson Sampling for the
    Multi-armed Bandit Problem", Algorithm 2, in expectation over its coin. The share of POSTERIOR_DRAWS in which a
    version is the best estimates the probability p' that it is. It is picked with f + (1 - k f) p', where the floor f
    is FLOOR, or 1 / k if that is less.

    Args:
        evidence: what is known of each version.
        seed: decides the draws; with another one the estimate differs a little.

    Returns:
        k numbers with sum 1.
    """
    k = len(evidence)
    floor = min(FLOOR, 1 / k)
    best = _best(evidence, seed) / POSTERIOR_DRAWS
    # The sum may round past one.
    return [min(p, 1.0) for p in (floor + (1 - k * floor) * best).tolist()]


def _best(evidence: Sequence[Evidence], seed: int) -> NDArray[np.float64]:
    """Return how often each version is the best in POSTERIOR_DRAWS draws, shape (k,)."""
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=_POSTERIOR)))
    n = np.array([one.rewards for one in evidence])
    # A mean may have been rounded past its bounds.
    m = np.clip([(1 + one.mean_reward) / 2 for one in evidence], 0, 1)
    draws = random.beta(1 + n * m, 1 + n * (1 - m), (POSTERIOR_DRAWS, len(evidence)))
    return np.bincount(draws.argmax(axis=1), minlength=len(evidence)).astype(np.float64)
