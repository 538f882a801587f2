"""The warm entries of the ledger, each with the decision of another policy that it comes from, for `verify`."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.user_ranges import UserRange


class WarmEntry(NamedTuple):
    """A warm entry and its origin.

    Attributes:
        x: features, shape (d,); None for a stored array that can't be a vector of finite numbers.
        before_...: the last ledger entry of the decision before this one; the policy is None if there is none, and the
            reward is None after a retraction.
        context, features: raw fields of the decision; both None: it is past retention.
    """

    user_id: str
    policy: str
    decision_id: UUID
    epoch: int
    version: int
    tip_id: str
    reward: float
    x: NDArray[np.float64] | None
    before_policy: str | None
    before_tip_id: str | None
    before_reward: float | None
    context: dict[str, Any] | None
    features: dict[str, Any] | None


# Entries are numbered under the locks of the states of their user, so positions have the order of the transactions.
_READ: Final = text("""
    SELECT
        l.user_id, l.policy, l.origin_decision_id, l.epoch, l.version, l.tip_id, l.reward, l.x,
        before.policy, before.tip_id, before.reward, h.context, h.features
    FROM (
        SELECT *
        FROM oo_ml.reward_ledger
        WHERE (user_id, policy, origin_decision_id)
                > (CAST(:user_id AS text), CAST(:policy AS text), CAST(:decision_id AS uuid))
            AND user_id <= CAST(:last AS text) AND origin_decision_id IS NOT NULL
        ORDER BY user_id, policy, origin_decision_id
        LIMIT :size
    ) AS l
    LEFT JOIN LATERAL (
        SELECT r.policy, r.tip_id, r.reward
        FROM oo_ml.reward_ledger AS r
        WHERE r.user_id = l.user_id AND r.decision_id = l.origin_decision_id AND r.position < l.position
        ORDER BY r.position DESC
        LIMIT 1
    ) AS before ON true
    LEFT JOIN oo_ml.feature_history AS h ON h.user_id = l.user_id AND h.decision_id = l.origin_decision_id
    ORDER BY l.user_id, l.policy, l.origin_decision_id
""")


def read_entries(connection: Reading, users: UserRange, page_size: int) -> Iterator[WarmEntry]:
    """Yield the warm entries of `users` by user, policy and decision, with at most `page_size` in memory."""
    # No policy is empty, so all entries of the first user come after this.
    after: Sequence[Any] = (users.first, "", UUID(int=0))
    while True:
        cursor = dict(zip(("user_id", "policy", "decision_id"), after, strict=True))
        page = connection.execute(_READ, {**cursor, "last": users.last, "size": page_size}).all()
        yield from map(WarmEntry._make, page)
        if len(page) < page_size:
            return
        after = page[-1][:3]
