"""Decisions that have a reward now, for a policy that did not make them and may learn from them (`warm`)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.reward_ledger import EPOCHS, EpochKey
from oo_ml.storage.user_ranges import WITHIN, UserRange


class RewardCounts(NamedTuple):
    """Numbers of rewarded decisions of a user: those that a policy has not learned from yet, and the others."""

    user_id: str
    waiting: int
    learned: int


class RewardedDecision(NamedTuple):
    """A decision as another policy may learn from it: the raw fields, and the reward that counts now."""

    position: int
    decision_id: UUID
    decided_at: datetime
    tip_id: str
    context: dict[str, Any]
    features: dict[str, Any]
    reward: float


# The entry by which the policy has learned from decision h.
_WARM_ENTRY: Final = """
    LEFT JOIN oo_ml.reward_ledger AS l
        ON l.user_id = h.user_id AND l.policy = :policy AND l.origin_decision_id = h.decision_id
"""

# The range is named for each table: the planner does not infer it from the equal user ids.
_COUNT = text(f"""
    SELECT h.user_id, count(*) FILTER (WHERE l.version IS NULL), count(l.version)
    FROM oo_ml.feature_history AS h
    JOIN oo_ml.policy_state AS s
        ON s.user_id = h.user_id AND s.policy = h.policy AND s.epoch = h.epoch AND s.{WITHIN}
    {_WARM_ENTRY} AND l.{WITHIN}
    WHERE h.{WITHIN} AND h.policy = ANY (CAST(:sources AS text[])) AND h.reward IS NOT NULL
    GROUP BY h.user_id
    ORDER BY h.user_id
""")

_READ = Statement(f"""
    SELECT {", ".join(f"h.{column}" for column in RewardedDecision._fields)}
    FROM {EPOCHS.source}
    JOIN oo_ml.feature_history AS h
        ON h.user_id = key.user_id AND h.policy = key.policy AND h.epoch = key.epoch
    {_WARM_ENTRY}
    WHERE h.reward IS NOT NULL AND l.version IS NULL AND h.position > :after
    ORDER BY h.position
    LIMIT :size
""")


def count_by_user(connection: Reading, users: UserRange, policy: str, sources: Sequence[str]) -> list[RewardCounts]:
    """Return the counts of each user who has rewarded decisions by one of `sources` in its current epoch.

    `policy` is the one that learns; there is at least one source.
    """
    rows = connection.execute(_COUNT, {**users._asdict(), "policy": policy, "sources": list(sources)})
    return [RewardCounts._make(row) for row in rows]


def read_waiting(
    connection: Reading, key: StateKey, epochs: Sequence[EpochKey], after: int, size: int
) -> list[RewardedDecision]:
    """Return the first `size` rewarded decisions of a user's `epochs` from which `key` has not learned, in order.

    Only decisions behind the position `after`. Lock the states first: then no other transaction changes the result.
    """
    parameters = {**EPOCHS.parameters(epochs), "policy": key.policy, "after": after, "size": size}
    return [RewardedDecision._make(row) for row in _READ.run(connection, parameters)]
