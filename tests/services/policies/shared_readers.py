"""Readers who learn from each other: their policy, versions of its prior, and beliefs computed with plain loops."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from oo_ml.domain.policies import Policy
from oo_ml.domain.population import Prior
from oo_ml.domain.ridge import Ridge
from oo_ml.storage import policy_priors
from oo_ml.storage.policy_priors import PriorRow
from tests.services.policies.readers import Readers, define, publish_policy
from tests.sessions import writing

HALF_LIFE: Final = timedelta(days=7)
SHARED: Final[dict[str, Any]] = define(evidence={"prior": "population", "half_life_days": HALF_LIFE.days})
# A week of it is 21 decisions.
PACE: Final = timedelta(hours=8)


def draw_prior(version: int, dimension: int, seed: int | None = None) -> Prior:
    """Return a prior that a fit may have given, another one for each seed; the seed is the version by default."""
    random = np.random.default_rng(version if seed is None else seed)
    roots = random.normal(0, 0.3, (2, dimension, dimension))
    covariance, of_mean = (root @ root.T / dimension + np.eye(dimension) / 10 for root in roots)
    return Prior(version, random.normal(0, 0.3, dimension), covariance, of_mean / 50, 0.2 + version / 10)


def insert_prior(db: Engine, policy: Policy, version: int, fitted_at: datetime, seed: int | None = None) -> Policy:
    """Insert a version of the policy's prior, and return the policy with it."""
    assert policy.population is not None
    prior = draw_prior(version, policy.features.dimension, seed)
    with writing(db) as connection:
        assert policy_priors.insert(connection, PriorRow(policy.name, prior, fitted_at, users=2, rewards=10))
    return replace(policy, population=replace(policy.population, prior=prior))


def live_with_priors(db: Engine, name: str = "shared-v1", decisions: int = 5) -> Readers:
    """Let ada and ben make decisions from the versions 0, 1 and 2 of a prior, each with every kind of reward."""
    readers = Readers(db, publish_policy(db, name, SHARED), PACE)
    for version in range(3):
        if version:
            readers.policy = insert_prior(db, readers.policy, version, readers.now)
        for user_id in ("ada", "ben"):
            readers.live(user_id, decisions)
    return readers


def believe(prior: Prior, rewards: Iterable[tuple[NDArray[np.float64], float, datetime]], at: datetime) -> Ridge:
    """Return the belief about a user at a time: each reward, for x and a decision, has faded since the decision."""
    inverse = np.linalg.inv(prior.covariance + prior.mean_covariance).astype(np.float64)
    precision, b = inverse, inverse @ prior.mean
    for x, reward, decided_at in rewards:
        faded = 0.5 ** ((at - decided_at) / HALF_LIFE)
        precision = precision + faded / prior.noise_variance * np.outer(x, x)
        b = b + faded / prior.noise_variance * reward * x
    return Ridge(precision, b)
