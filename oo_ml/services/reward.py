"""Learning: a person's reaction goes into their model, their ledger and the decision it belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from oo_ml.domain.features import Moment, Task, encode
from oo_ml.domain.policies import DIMENSIONS
from oo_ml.domain.ridge import observe
from oo_ml.storage import history, ledger, states
from oo_ml.storage.history import TipReward
from oo_ml.storage.ledger import RewardRow
from oo_ml.storage.states import StateKey, later


@dataclass(frozen=True, slots=True)
class RewardCommand:
    """The reaction to a tip: `reward` in [-1, 1], with the features it is learned for."""

    user_id: str
    policy: str
    tip_id: str
    reward: float
    received_at: datetime
    moment: Moment
    task: Task


@dataclass(frozen=True, slots=True)
class Applied:
    """The reward is in: it made `version`, and went to `decision_id` if the tip had an unrewarded decision."""

    version: int
    decision_id: UUID | None


def learn(connection: Connection, commands: Sequence[RewardCommand]) -> list[Applied]:
    """Apply one reward a command, in the order given: A += x x^T, b += r x."""
    keys = [StateKey(command.user_id, command.policy) for command in commands]
    current = states.lock_or_create(connection, keys)
    decision_ids = history.reward_latest(
        connection,
        [
            TipReward(key, current[key].epoch, command.tip_id, command.reward, command.received_at)
            for key, command in zip(keys, commands, strict=True)
        ],
    )
    rows = []
    for key, command, decision_id in zip(keys, commands, decision_ids, strict=True):
        state = current[key]
        x = encode(command.moment, [command.task], DIMENSIONS[key.policy])[0]
        state = replace(
            state,
            model=observe(state.model, x, command.reward),
            version=state.version + 1,
            reward_count=state.reward_count + 1,
            cumulative_reward=state.cumulative_reward + command.reward,
            last_updated=later(state.last_updated, command.received_at),
        )
        current[key] = state
        rows.append(
            RewardRow(
                key, state.epoch, state.version, command.received_at, command.reward, x, command.tip_id, decision_id
            )
        )
    states.save(connection, list(current.values()))
    ledger.insert_rewards(connection, rows)
    return [Applied(row.version, row.decision_id) for row in rows]
