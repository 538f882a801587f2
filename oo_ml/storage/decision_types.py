"""Decisions as objects. DecisionRow has every column that is inserted; other classes have the columns that are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.learning import Kind
from oo_ml.storage.policy_state import StateKey


class DecisionKey(NamedTuple):
    """Name of a row."""

    user_id: str
    decision_id: UUID


@dataclass(frozen=True, slots=True)
class TipKey:
    """Name of the decisions for one tip in one epoch."""

    state_key: StateKey
    epoch: int
    tip_id: str


# A tuple of so many fields is made three times as fast as a frozen dataclass.
class DecisionRow(NamedTuple):
    """A decision among n candidates, to be stored; its fields are columns (storage/schema/decision_tables.py).

    Attributes:
        policy_probability: share of the users that the traffic gives this policy; None: the client named it.
        content: text of the chosen tip; None takes that of the latest generated tip of that id.
        prompt_version: as the client named it; None takes that of the same tip.
        x: features of the chosen tip, shape (d,).
        prior_version: of the prior that it started from; None unless the policy is pooled, like the next two.
        prior_score: the part of theta.x of the chosen tip that the prior gave.
        weight: g, with which the reward counts; see domain/population.py.
        exploit, explore, propensities: of each candidate, shape (n,); see domain/policies.py.
    """

    key: StateKey
    policy_probability: float | None
    decision_id: UUID
    epoch: int
    version: int
    pull: int
    decided_at: datetime
    score: float
    propensity: float
    exploring: bool
    tip_id: str
    content: str | None
    prompt_version: str | None
    x: NDArray[np.float64]
    context: Mapping[str, Any]
    features: Mapping[str, Any]
    candidates: list[dict[str, Any]]
    answer: dict[str, Any]
    request_digest: bytes | None
    exploration: float
    alpha: float | None
    prior_version: int | None
    prior_score: float | None
    weight: float | None
    exploit: NDArray[np.float64]
    explore: NDArray[np.float64]
    propensities: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer of a decision that was made before, and the digest of the request for it."""

    request_digest: bytes | None
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The part of a decision that learning needs.

    Attributes:
        epoch: of the state it was made from.
        x: features of the chosen tip, shape (d,).
        weight: g, with which the reward counts; None: 1.
        reward: the reward that counts; None before the first and after a retraction.
        rewarded_at: time of that reward.
        reward_kind: DEFAULT, AMEND or RETRACT; None for a reward as first received, or none yet.
    """

    user_id: str
    decision_id: UUID
    policy: str
    epoch: int
    decided_at: datetime
    tip_id: str
    x: NDArray[np.float64]
    weight: float | None
    reward: float | None
    rewarded_at: datetime | None
    reward_kind: Kind | None

    @property
    def key(self) -> DecisionKey:
        """Name of the row."""
        return DecisionKey(self.user_id, self.decision_id)

    @property
    def state_key(self) -> StateKey:
        """Name of the state that it was made from."""
        return StateKey(self.user_id, self.policy)

    @property
    def is_open(self) -> bool:
        """True if the decision has no reward so far, not even a default reward."""
        return self.reward is None and self.reward_kind is None

    @property
    def awaits_reaction(self) -> bool:
        """True if the user has not reacted: the decision is open, or has a default reward."""
        return self.is_open or self.reward_kind is Kind.DEFAULT


@dataclass(frozen=True, slots=True, eq=False)
class StoredDecision:
    """A decision with everything that explains it; its fields are columns. See DecisionRow and Decision."""

    user_id: str
    decision_id: UUID
    policy: str
    policy_probability: float | None
    epoch: int
    version: int
    decided_at: datetime
    score: float
    propensity: float
    exploring: bool
    tip_id: str
    content: str | None
    prompt_version: str | None
    prompt_probability: float | None
    generation_id: UUID | None
    x: NDArray[np.float64]
    context: dict[str, Any]
    features: dict[str, Any]
    candidates: list[dict[str, Any]]
    answer: dict[str, Any]
    reward: float | None
    rewarded_at: datetime | None
    reward_kind: str | None
    exploration: float | None
    alpha: float | None
    prior_version: int | None
    prior_score: float | None
    weight: float | None
    exploit: NDArray[np.float64] | None
    explore: NDArray[np.float64] | None
    propensities: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class RecentDecision:
    """A decision as /features shows it."""

    decided_at: datetime
    context: dict[str, Any]
    features: dict[str, Any]
    exploring: bool
    score: float
    tip_id: str
    policy: str
