"""Stats, recent decisions and receipts of a user, read without a lock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from oo_ml.domain.policies import draw
from oo_ml.domain.ridge import theta
from oo_ml.errors import OoMlError, UnknownDecisionError
from oo_ml.storage.decision_types import DecisionKey, RecentDecision, StoredDecision
from oo_ml.storage.feature_history import read_recent_decisions, read_stored_decision
from oo_ml.storage.policy_state import PolicyState, StateKey, read_states
from oo_ml.storage.postgres.engine import snapshot
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.reward_ledger import ReceiptEntry, read_entries_of_decision


@dataclass(frozen=True, slots=True)
class StatsCommand:
    """Ask for the stats of a user and a policy."""

    user_id: str
    policy: str


@dataclass(frozen=True, slots=True)
class ReceiptCommand:
    """Ask for the receipt of a decision."""

    user_id: str
    decision_id: UUID


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters and model of a user and a policy; `theta` has d numbers, all zero for an unknown user."""

    pulls: int
    explore_count: int
    reward_count: int
    cumulative_reward: float
    theta: list[float]
    last_updated: datetime | None

    @property
    def estimated_mean_reward(self) -> float:
        """cumulative_reward / reward_count; 0 without rewards."""
        return self.cumulative_reward / self.reward_count if self.reward_count else 0.0

    @property
    def exploration_rate(self) -> float:
        """explore_count / pulls; 0 without decisions."""
        return self.explore_count / self.pulls if self.pulls else 0.0


def read_stats(connection: Reading, commands: Sequence[StatsCommand]) -> list[Stats]:
    """Return the stats of each user and policy."""
    return [_read_stats(connection, StateKey(command.user_id, command.policy)) for command in commands]


def _read_stats(connection: Reading, key: StateKey) -> Stats:
    state = read_states(connection, key.user_id).get(key.policy) or PolicyState.fresh(key)
    return Stats(
        pulls=state.pulls,
        explore_count=state.explore_count,
        reward_count=state.reward_count,
        cumulative_reward=state.cumulative_reward,
        theta=theta(state.model).tolist(),
        last_updated=state.last_updated,
    )


def read_features(connection: Reading, user_ids: Sequence[str]) -> list[list[RecentDecision]]:
    """Return the last 100 decisions of each user, oldest first."""
    return [read_recent_decisions(connection, user_id) for user_id in user_ids]


@dataclass(frozen=True, slots=True, eq=False)
class Receipt:
    """A decision with everything that explains it.

    Attributes:
        decision: the stored decision, with the reward that counts now.
        draw: two uniform numbers computed from its id. The first decides whether to explore; the second then picks the
            candidate.
        rewards: the ledger entries about its reward, oldest first.
    """

    decision: StoredDecision
    draw: tuple[float, float]
    rewards: list[ReceiptEntry]


def read_receipts(connection: Reading, commands: Sequence[ReceiptCommand]) -> list[Receipt | OoMlError]:
    """Return the receipt of each decision."""
    snapshot(connection)
    return [_read_receipt(connection, DecisionKey(command.user_id, command.decision_id)) for command in commands]


def _read_receipt(connection: Reading, key: DecisionKey) -> Receipt | OoMlError:
    decision = read_stored_decision(connection, key)
    if decision is None:
        return UnknownDecisionError()
    return Receipt(decision, draw(key.decision_id.int), read_entries_of_decision(connection, key))
