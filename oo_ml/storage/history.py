"""feature_history: one row a decision, never changed but for its reward."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from oo_ml.storage import arrays
from oo_ml.storage.states import StateKey

HISTORY_LENGTH = 100


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision as stored.

    Attributes:
        key: whose decision, by which policy.
        epoch, version: of the state it was made from.
        prompt_version: as the client named it; None leaves it to the latest generated tip of that id.
        x: features of the chosen tip, shape (d,).
        context: the moment it was made for.
        features: the chosen tip's, raw, as /features shows them.
        candidates: what was considered, as JSON objects.
        answer: what the client was told.
    """

    key: StateKey
    decision_id: UUID
    epoch: int
    version: int
    decided_at: datetime
    score: float
    propensity: float
    exploring: bool
    tip_id: str
    prompt_version: str | None
    x: NDArray[np.float64]
    context: dict[str, Any]
    features: dict[str, Any]
    candidates: list[dict[str, Any]]
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A decision as /features shows it."""

    decided_at: datetime
    features: dict[str, Any]
    score: float
    tip_id: str
    policy: str


# The prompt version comes from the candidate, else from the latest generated tip of that id. WITH ORDINALITY and the
# ORDER BY give positions in the order of the batch.
_INSERT = text(f"""
    INSERT INTO feature_history (
        user_id, decision_id, policy, epoch, version, decided_at, score, propensity, exploring, tip_id,
        prompt_version, generation_id, x, context, features, candidates, answer
    )
    SELECT
        k.user_id, k.decision_id, k.policy, k.epoch, k.version, k.decided_at, k.score, k.propensity, k.exploring,
        k.tip_id, coalesce(k.prompt_version, tip.prompt_version), tip.generation_id,
        {arrays.vector_sql("x", "k.x_offset", "k.dimension")},
        k.context, k.features, k.candidates, k.answer
    FROM unnest(
        CAST(:user_ids AS text[]), CAST(:decision_ids AS uuid[]), CAST(:policies AS text[]),
        CAST(:epochs AS integer[]), CAST(:versions AS bigint[]), CAST(:decided_at AS timestamptz[]),
        CAST(:scores AS float8[]), CAST(:propensities AS float8[]), CAST(:exploring AS boolean[]),
        CAST(:tip_ids AS text[]), CAST(:prompt_versions AS text[]),
        CAST(:contexts AS jsonb[]), CAST(:features AS jsonb[]), CAST(:candidates AS jsonb[]), CAST(:answers AS jsonb[]),
        CAST(:dimensions AS integer[]), CAST(:x_offsets AS integer[])
    ) WITH ORDINALITY AS k (
        user_id, decision_id, policy, epoch, version, decided_at, score, propensity, exploring, tip_id,
        prompt_version, context, features, candidates, answer, dimension, x_offset, place
    )
    LEFT JOIN LATERAL (
        SELECT t.prompt_version, t.generation_id
        FROM tips AS t
        WHERE t.user_id = k.user_id AND t.tip_id = k.tip_id
            AND (k.prompt_version IS NULL OR t.prompt_version = k.prompt_version)
        ORDER BY t.generation_id DESC
        LIMIT 1
    ) AS tip ON true
    ORDER BY k.place
""")

# The n-th reward of a batch for one tip goes to the tip's n-th latest decision that has none.
_REWARD = text("""
    UPDATE feature_history AS h
    SET reward = k.reward, rewarded_at = k.rewarded_at
    FROM unnest(
        CAST(:user_ids AS text[]), CAST(:policies AS text[]), CAST(:epochs AS integer[]), CAST(:tip_ids AS text[]),
        CAST(:earlier AS integer[]), CAST(:rewards AS float8[]), CAST(:rewarded_at AS timestamptz[])
    ) WITH ORDINALITY AS k (user_id, policy, epoch, tip_id, earlier, reward, rewarded_at, place)
    CROSS JOIN LATERAL (
        SELECT u.decision_id
        FROM feature_history AS u
        WHERE u.user_id = k.user_id AND u.policy = k.policy AND u.epoch = k.epoch AND u.tip_id = k.tip_id
            AND u.reward IS NULL
        ORDER BY u.position DESC
        OFFSET k.earlier
        LIMIT 1
    ) AS latest
    WHERE h.user_id = k.user_id AND h.decision_id = latest.decision_id
    RETURNING k.place, h.decision_id
""")

_RECENT = text("""
    SELECT h.decided_at, h.features, h.score, h.tip_id, h.policy
    FROM policy_state AS s
    CROSS JOIN LATERAL (
        SELECT *
        FROM feature_history AS f
        WHERE f.user_id = s.user_id AND f.policy = s.policy AND f.epoch = s.epoch
        ORDER BY f.position DESC
        LIMIT :length
    ) AS h
    WHERE s.user_id = :user_id
    ORDER BY h.position DESC
    LIMIT :length
""")


def insert(connection: Connection, decisions: Sequence[DecisionRow]) -> None:
    """Write `decisions`, in the order in which they were made."""
    dimensions = [len(decision.x) for decision in decisions]
    connection.execute(
        _INSERT,
        {
            "user_ids": [decision.key.user_id for decision in decisions],
            "decision_ids": [decision.decision_id for decision in decisions],
            "policies": [decision.key.policy for decision in decisions],
            "epochs": [decision.epoch for decision in decisions],
            "versions": [decision.version for decision in decisions],
            "decided_at": [decision.decided_at for decision in decisions],
            "scores": np.array([decision.score for decision in decisions]),
            "propensities": np.array([decision.propensity for decision in decisions]),
            "exploring": [decision.exploring for decision in decisions],
            "tip_ids": [decision.tip_id for decision in decisions],
            "prompt_versions": [decision.prompt_version for decision in decisions],
            "contexts": [json.dumps(decision.context) for decision in decisions],
            "features": [json.dumps(decision.features) for decision in decisions],
            "candidates": [json.dumps(decision.candidates) for decision in decisions],
            "answers": [json.dumps(decision.answer) for decision in decisions],
            "dimensions": dimensions,
            "x": arrays.pack([decision.x for decision in decisions]),
            "x_offsets": arrays.offsets(dimensions),
        },
    )


@dataclass(frozen=True, slots=True)
class TipReward:
    """A reward for a tip, whose decision the client did not name."""

    key: StateKey
    epoch: int
    tip_id: str
    reward: float
    rewarded_at: datetime


def reward_latest(connection: Connection, rewards: Sequence[TipReward]) -> list[UUID | None]:
    """Give each reward to its tip's latest decision of this epoch that has none yet.

    The state rows must be locked: that is what keeps two rewards from choosing the same decision.

    Returns:
        the decision each reward went to, in the order given; None where there is none.
    """
    seen: Counter[tuple[StateKey, str]] = Counter()
    earlier = []
    for reward in rewards:
        earlier.append(seen[reward.key, reward.tip_id])
        seen[reward.key, reward.tip_id] += 1
    rows = connection.execute(
        _REWARD,
        {
            "user_ids": [reward.key.user_id for reward in rewards],
            "policies": [reward.key.policy for reward in rewards],
            "epochs": [reward.epoch for reward in rewards],
            "tip_ids": [reward.tip_id for reward in rewards],
            "earlier": earlier,
            "rewards": np.array([reward.reward for reward in rewards]),
            "rewarded_at": [reward.rewarded_at for reward in rewards],
        },
    )
    found = {row.place: row.decision_id for row in rows}
    return [found.get(place) for place in range(1, len(rewards) + 1)]


def recent(connection: Connection, user_id: str) -> list[HistoryEntry]:
    """Return the last 100 decisions of the user's current epochs, both policies, oldest first."""
    rows = connection.execute(_RECENT, {"user_id": user_id, "length": HISTORY_LENGTH})
    return [HistoryEntry(*row) for row in rows][::-1]
