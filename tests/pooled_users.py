"""Simulated users of pooled-v1, and fits of their prior."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
from sqlalchemy import Engine

from oo_ml.domain import population
from oo_ml.domain.policies import Policy
from oo_ml.domain.population import Prior, Sample
from oo_ml.storage import policy_priors
from oo_ml.storage.policy_priors import PriorRow
from oo_ml.storage.policy_state import read_range
from oo_ml.storage.user_ranges import UserRange
from tests.policies import Parameters, builtin
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers

POOLED: Final = "pooled-v1"
_ALL: Final = UserRange("", "\U0010ffff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled(Parameters):
    """pooled-v1 with a version of its prior; the other policies as of their parameters."""

    prior: Prior

    def policy(self, name: str) -> Policy:
        """Return a policy with these parameters."""
        found = builtin(name)
        if found.population is None:
            return Parameters.policy(self, name)
        return replace(found, population=replace(found.population, prior=self.prior))


def build_parameters(prior: Prior | None = None) -> Pooled:
    """Return parameters with a prior; None: the one before the first fit."""
    d = builtin(POOLED).features.dimension
    return Pooled(alpha=1.0, epsilon=0.1, exploration=0.1, prior=prior or Prior.initial(d))


def live(simulated: SimulatedUsers, users: int, decisions: int, prior: Prior | None = None, first: int = 0) -> None:
    """Let users make decisions by pooled-v1 in turn, and react to four of five. `first` is the number of the first."""
    for number in range(decisions):
        for user in range(first, first + users):
            made = simulated.decide(f"user {user}", POOLED, ids=["a", "b", "c"], parameters=build_parameters(prior))
            if (number + user) % 5:
                simulated.react(made)


def fit(db: Engine, before: Prior | None, at: datetime) -> Prior:
    """Fit the next version of the prior of pooled-v1 to all users, and store it."""
    policy = builtin(POOLED)
    assert policy.population is not None
    with writing(db) as connection:
        states = [state for key, state in read_range(connection, _ALL).items() if key.policy == POOLED]
        scale = 1 / policy.population.weigh(at)
        evidence = [state.evidence for state in states if state.reward_count]
        sample = Sample(
            scale * np.array([one.A for one in evidence]),
            scale * np.array([one.b for one in evidence]),
            scale * np.array([one.weight for one in evidence]),
            scale * np.array([one.squares for one in evidence]),
        )
        prior = population.fit(sample, before or Prior.initial(policy.features.dimension))
        rewards = sum(state.reward_count for state in states)
        assert policy_priors.insert(connection, PriorRow(POOLED, prior, at, len(evidence), rewards))
    return prior
