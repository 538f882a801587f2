"""reward_ledger: one row for each change of A and b, append only; a user's state is the fold of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from oo_ml.storage import arrays
from oo_ml.storage.states import PolicyState, StateKey


@dataclass(frozen=True, slots=True)
class RewardRow:
    """A reward as applied: it led from version - 1 of the epoch to `version`.

    Attributes:
        x: features it was applied with, shape (d,).
        decision_id: the decision it is for, if known.
    """

    key: StateKey
    epoch: int
    version: int
    recorded_at: datetime
    reward: float
    x: NDArray[np.float64]
    tip_id: str
    decision_id: UUID | None


_INSERT_REWARDS = text(f"""
    INSERT INTO reward_ledger (
        user_id, policy, epoch, version, recorded_at, kind, reward, x, tip_id, decision_id
    )
    SELECT
        k.user_id, k.policy, k.epoch, k.version, k.recorded_at, 'reward', k.reward,
        {arrays.vector_sql("x", "k.x_offset", "k.dimension")},
        k.tip_id, k.decision_id
    FROM unnest(
        CAST(:user_ids AS text[]), CAST(:policies AS text[]), CAST(:epochs AS integer[]), CAST(:versions AS bigint[]),
        CAST(:recorded_at AS timestamptz[]), CAST(:rewards AS float8[]), CAST(:tip_ids AS text[]),
        CAST(:decision_ids AS uuid[]), CAST(:dimensions AS integer[]), CAST(:x_offsets AS integer[])
    ) AS k (
        user_id, policy, epoch, version, recorded_at, reward, tip_id, decision_id, dimension, x_offset
    )
""")

_INSERT_IMPORT = text("""
    INSERT INTO reward_ledger (
        user_id, policy, epoch, version, recorded_at, kind,
        start_pulls, start_explore_count, start_reward_count, start_cumulative_reward, start_a, start_b
    )
    VALUES (
        :user_id, :policy, :epoch, :version, :recorded_at, 'import',
        :pulls, :explore_count, :reward_count, :cumulative_reward, :a, :b
    )
""")

_ONLY_IMPORTED = text("""
    SELECT s.user_id, s.policy
    FROM policy_state AS s
    JOIN unnest(CAST(:user_ids AS text[]), CAST(:policies AS text[])) AS k (user_id, policy)
        ON s.user_id = k.user_id AND s.policy = k.policy
    JOIN reward_ledger AS l
        ON l.user_id = s.user_id AND l.policy = s.policy AND l.epoch = s.epoch AND l.version = s.version
    WHERE l.kind = 'import' AND l.start_pulls = s.pulls
""")


def insert_rewards(connection: Connection, rewards: Sequence[RewardRow]) -> None:
    """Append `rewards`."""
    dimensions = [len(reward.x) for reward in rewards]
    connection.execute(
        _INSERT_REWARDS,
        {
            "user_ids": [reward.key.user_id for reward in rewards],
            "policies": [reward.key.policy for reward in rewards],
            "epochs": [reward.epoch for reward in rewards],
            "versions": [reward.version for reward in rewards],
            "recorded_at": [reward.recorded_at for reward in rewards],
            "rewards": np.array([reward.reward for reward in rewards]),
            "tip_ids": [reward.tip_id for reward in rewards],
            "decision_ids": [reward.decision_id for reward in rewards],
            "dimensions": dimensions,
            "x": arrays.pack([reward.x for reward in rewards]),
            "x_offsets": arrays.offsets(dimensions),
        },
    )


def insert_imports(connection: Connection, states: Sequence[PolicyState], recorded_at: datetime) -> None:
    """Append one row a state, which carries the whole of it: what the epoch's fold starts from."""
    connection.execute(
        _INSERT_IMPORT,
        [
            {
                "user_id": state.key.user_id,
                "policy": state.key.policy,
                "epoch": state.epoch,
                "version": state.version,
                "recorded_at": recorded_at,
                "pulls": state.pulls,
                "explore_count": state.explore_count,
                "reward_count": state.reward_count,
                "cumulative_reward": state.cumulative_reward,
                "a": state.model.A,
                "b": state.model.b,
            }
            for state in states
        ],
    )


def only_imported(connection: Connection, keys: Sequence[StateKey]) -> set[StateKey]:
    """Return those of `keys` whose state is an import's to this day: no decision and no reward has come since."""
    rows = connection.execute(
        _ONLY_IMPORTED, {"user_ids": [key.user_id for key in keys], "policies": [key.policy for key in keys]}
    )
    return {StateKey(user_id, policy) for user_id, policy in rows}
