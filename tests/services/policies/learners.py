"""Users of a policy who share a taste: theta is N(MEAN, 0.2^2 I), and a reward is theta.x + N(0, 0.3^2)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import Engine

from oo_ml.domain.policies import Policy
from oo_ml.services.decisions.learn import RewardCommand, learn
from tests.services.policies.readers import NOON, publish_policy
from tests.sessions import writing

SHARED: Final[dict[str, Any]] = {
    "inputs": [
        {"name": "a", "of": "candidate", "encoding": "number", "min": 0, "max": 1},
        {"name": "b", "of": "candidate", "encoding": "number", "min": 0, "max": 1},
    ],
    "terms": [{"one": True}, {"input": "a"}, {"input": "b"}],
    "rule": {"alpha": 1.0, "sigma": 0.3, "exploration": 0.02},
    "evidence": {"prior": "population", "half_life_days": 10},
}
NAME: Final = "shared-v1"
MEAN: Final = np.array([0.2, 0.4, -0.3])
SPREAD: Final = 0.2
NOISE: Final = 0.3


@dataclass
class Learners:
    """Users of one database."""

    db: Engine
    name: str = NAME
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    policy: Policy = field(init=False)

    def __post_init__(self) -> None:
        """Publish the policy."""
        self.policy = publish_policy(self.db, self.name, SHARED)

    def teach(self, users: int, rewards: int, *, first: int = 0, at: datetime = NOON, mean: Any = MEAN) -> None:  # noqa: ANN401 - numbers
        """Give each of these users some rewards, in one transaction."""
        commands = []
        for user in range(first, first + users):
            theta = mean + self.random.normal(0, SPREAD, 3)
            for _ in range(rewards):
                a, b = (float(one) for one in self.random.random(2))
                reward = float(np.clip(theta @ [1, a, b] + self.random.normal(0, NOISE), -1, 1))
                commands.append(RewardCommand(f"user {user}", self.policy, "t", reward, at, {}, {"a": a, "b": b}))
        with writing(self.db) as connection:
            learn(connection, commands)
