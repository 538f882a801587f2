"""Stats, recent decisions and receipts of a user, read without a lock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from oo_ml.domain.policies import Policy, draw
from oo_ml.domain.population import Prior
from oo_ml.domain.ridge import Ridge, intervals, theta
from oo_ml.errors import OoMlError, UnknownDecisionError
from oo_ml.services.each import each
from oo_ml.storage.decision_types import DecisionKey, StoredDecision
from oo_ml.storage.feature_history import read_recent_decisions, read_stored_decision
from oo_ml.storage.policy_state import PolicyState, StateKey, read_states
from oo_ml.storage.postgres.engine import snapshot
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.reward_ledger import ReceiptEntry, read_entries_of_decision

__all__ = ["DecisionKey", "Receipt", "Stats", "StatsCommand", "read_features", "read_receipts", "read_stats"]


@dataclass(frozen=True, slots=True)
class StatsCommand:
    """The user and the policy to read the stats of."""

    user_id: str
    policy: Policy
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters and model of a user and a policy.

    Attributes:
        theta: d numbers with `labels`, all zero for an unknown user.
        intervals: the 95 % interval of each number of theta.
        own_evidence: the share of the prior's uncertainty that the user's own rewards took, from 0 to 1; None unless
            the policy is pooled, like the next two.
        prior_version: of the prior that theta starts from.
        population: for each number of theta that of the mean user, and the range of 95 % of the users.
    """

    user_id: str
    policy: str
    pulls: int
    explore_count: int
    reward_count: int
    cumulative_reward: float
    theta: list[float]
    intervals: list[tuple[float, float]]
    labels: tuple[str, ...]
    own_evidence: float | None
    prior_version: int | None
    population: list[tuple[float, float, float]] | None
    last_updated: datetime | None

    @property
    def estimated_mean_reward(self) -> float:
        """cumulative_reward / reward_count; 0 without rewards."""
        return self.cumulative_reward / self.reward_count if self.reward_count else 0.0

    @property
    def exploration_rate(self) -> float:
        """explore_count / pulls; 0 without decisions."""
        return self.explore_count / self.pulls if self.pulls else 0.0


@each
def read_stats(connection: Reading, command: StatsCommand) -> Stats:
    """Return the stats of a user and a policy."""
    policy = command.policy
    state = read_states(connection, command.user_id).get(policy.name) or PolicyState(
        StateKey(command.user_id, policy.name), policy.fresh()
    )
    beliefs = policy.believe([state.evidence], [command.asked_at])
    belief = Ridge(beliefs.A[0], beliefs.b[0])
    prior = None if policy.population is None else policy.population.prior
    return Stats(
        user_id=command.user_id,
        policy=policy.name,
        pulls=state.pulls,
        explore_count=state.explore_count,
        reward_count=state.reward_count,
        cumulative_reward=state.cumulative_reward,
        theta=theta(belief).tolist(),
        intervals=[(low, high) for low, high in intervals(belief).tolist()],
        labels=policy.features.labels,
        # Rounding can give a new user less than 0.
        own_evidence=None if prior is None else max(prior.own_share(belief), 0.0),
        prior_version=None if prior is None else prior.version,
        population=None if prior is None else _describe_users(prior),
        last_updated=state.last_updated,
    )


def _describe_users(prior: Prior) -> list[tuple[float, float, float]]:
    """Return each number of the mean user's theta, and the ends of the range of 95 % of the users."""
    rows = np.column_stack([prior.mean, intervals(prior.belief)]).tolist()
    return [(estimate, low, high) for estimate, low, high in rows]


# The last 100 decisions of each user, oldest first.
read_features = each(read_recent_decisions)


@dataclass(frozen=True, slots=True, eq=False)
class Receipt:
    """A decision with everything that explains it; `rewards` are the ledger entries about it, oldest first.

    `draw` has two uniform numbers computed from its id. The first decides whether to explore; the second then picks the
    candidate.
    """

    decision: StoredDecision
    draw: tuple[float, float]
    rewards: list[ReceiptEntry]

    @property
    def own_score(self) -> float | None:
        """The part of theta.x of the chosen tip that is not the prior's; None unless the policy is pooled."""
        stored = self.decision
        if stored.prior_score is None or stored.exploit is None or stored.explore is None:
            return None
        # A tip may be listed twice, with other features: the score tells which one was chosen.
        scores = stored.exploit + stored.explore
        rows = zip(stored.candidates, stored.exploit.tolist(), scores.tolist(), strict=True)
        chosen = (exploit for one, exploit, score in rows if one["id"] == stored.tip_id and score == stored.score)
        exploit = next(chosen, None)
        return None if exploit is None else exploit - stored.prior_score


def read_receipts(connection: Reading, keys: Sequence[DecisionKey]) -> list[Receipt | OoMlError]:
    """Return the receipt of each decision."""
    snapshot(connection)
    return [_read_receipt(connection, key) for key in keys]


def _read_receipt(connection: Reading, key: DecisionKey) -> Receipt | OoMlError:
    decision = read_stored_decision(connection, key)
    if decision is None:
        return UnknownDecisionError()
    return Receipt(decision, draw(key.decision_id.int), read_entries_of_decision(connection, key))
