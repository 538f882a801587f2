"""Beliefs about users who learn alone, for tests of the maths that start from one."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.evidence import Evidence, observe
from oo_ml.domain.ridge import Ridge


def believe(dimension: int, rewards: Iterable[tuple[NDArray[np.float64], float]] = ()) -> Ridge:
    """Return the belief about a user who gave rewards for features: pairs of x and r."""
    evidence = Evidence.alone(dimension)
    for x, reward in rewards:
        evidence = observe(evidence, x, reward)
    return Ridge(evidence.A, evidence.b)


def draw_belief(rng: np.random.Generator, dimension: int, rewards: int) -> Ridge:
    """Return the belief about a user who gave some rewards, drawn at random."""
    return believe(dimension, [(x, rng.uniform(-1, 1)) for x in rng.normal(size=(rewards, dimension))])
