"""Where the changes of a decision don't follow from each other, or the decision is not as its changes tell.

A decision's changes are a chain: a first reward, received or assumed, then corrections, each of the one before it.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from oo_ml.domain.identifiers import first_id
from oo_ml.domain.policies import DIMENSIONS
from oo_ml.storage.audit import WITHIN, People


class BrokenLink(NamedTuple):
    """A change that does not follow from the one before it of the same decision.

    Attributes:
        broken: which of its columns is at fault.
        before_policy, ...: the change before it; None if it is the decision's first.
    """

    user_id: str
    policy: str
    epoch: int
    version: int
    decision_id: UUID
    broken: str
    kind: str
    corrects: int | None
    previous_reward: float | None
    before_policy: str | None
    before_epoch: int | None
    before_version: int | None
    before_kind: str | None
    before_reward: float | None


class Contradiction(NamedTuple):
    """A decision that is not in the history, whose x can't be, or that shows another reward than its last change says.

    Attributes:
        user_id, policy, epoch: the decision's, or the ledger's if the history does not hold it.
        in_history: whether the history holds the decision.
        dimension: how many numbers its x must have, if it has not.
        x_length: how many it has; None if the history does not hold the decision.
        ledger_version: of the last change; None if the ledger holds none.
    """

    user_id: str
    policy: str
    epoch: int
    decision_id: UUID
    in_history: bool
    dimension: int | None
    x_length: int | None
    reward: float | None
    kind: str | None
    ledger_policy: str | None
    ledger_epoch: int | None
    ledger_version: int | None
    ledger_reward: float | None
    ledger_kind: str | None


# float8send and array_send: 0 and -0 are equal, and not the same. The column at fault comes out of one CASE, so that
# whatever is found can also be explained.
_BROKEN_LINK = text(f"""
    SELECT
        c.user_id, c.policy, c.epoch, c.version, c.decision_id, found.broken, c.kind, c.corrects, c.previous_reward,
        c.before_policy, c.before_epoch, c.before_version, c.before_kind, c.before_reward
    FROM (
        SELECT
            user_id, policy, epoch, version, decision_id, kind, corrects, previous_reward, x,
            lag(policy) OVER chain AS before_policy, lag(epoch) OVER chain AS before_epoch,
            lag(version) OVER chain AS before_version, lag(kind) OVER chain AS before_kind,
            lag(reward) OVER chain AS before_reward, lag(x) OVER chain AS before_x
        FROM oo_ml.reward_ledger
        WHERE {WITHIN} AND decision_id IS NOT NULL
        WINDOW chain AS (PARTITION BY user_id, decision_id ORDER BY policy, epoch, version)
    ) AS c
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN (c.policy, c.epoch) <> (c.before_policy, c.before_epoch) THEN 'epoch'
            WHEN c.corrects IS DISTINCT FROM c.before_version THEN 'corrects'
            WHEN c.kind <> ALL (
                CASE
                    WHEN c.before_version IS NULL THEN ARRAY['reward', 'default']
                    WHEN c.before_kind = 'retract' THEN ARRAY['reward']
                    ELSE ARRAY['amend', 'retract']
                END
            ) THEN 'kind'
            WHEN c.kind NOT IN ('amend', 'retract') THEN NULL
            WHEN float8send(c.previous_reward) IS DISTINCT FROM float8send(c.before_reward) THEN 'previous_reward'
            WHEN array_send(c.x) IS DISTINCT FROM array_send(c.before_x) THEN 'x'
        END AS broken
    ) AS found
    WHERE found.broken IS NOT NULL
    ORDER BY c.user_id, c.policy, c.epoch, c.version
    LIMIT 1
""")

_CONTRADICTION = text(f"""
    SELECT
        coalesce(h.user_id, l.user_id) AS user_id, coalesce(h.policy, l.policy) AS policy,
        coalesce(h.epoch, l.epoch) AS epoch, coalesce(h.decision_id, l.decision_id) AS decision_id,
        h.decision_id IS NOT NULL AS in_history,
        CASE WHEN h.x_length = h.dimension THEN NULL ELSE h.dimension END AS dimension, h.x_length,
        h.reward, h.reward_kind,
        l.policy, l.epoch, l.version, l.reward, l.kind
    FROM (
        SELECT
            user_id, decision_id, policy, epoch, reward, reward_kind, d.dimension,
            cardinality(x) AS x_length
        FROM oo_ml.feature_history
        LEFT JOIN unnest(CAST(:policies AS text[]), CAST(:dimensions AS integer[])) AS d (name, dimension)
            ON d.name = policy
        WHERE {WITHIN}
    ) AS h
    FULL JOIN (
        SELECT DISTINCT ON (user_id, decision_id) user_id, decision_id, policy, epoch, version, reward, kind
        FROM oo_ml.reward_ledger
        WHERE {WITHIN} AND decision_id IS NOT NULL
        ORDER BY user_id, decision_id, policy DESC, epoch DESC, version DESC
    ) AS l ON l.user_id = h.user_id AND l.decision_id = h.decision_id
    WHERE CASE
        WHEN h.decision_id IS NULL THEN l.decision_id >= CAST(:first_kept AS uuid)
        WHEN h.x_length <> h.dimension THEN true
        WHEN l.decision_id IS NULL THEN num_nonnulls(h.reward, h.reward_kind) > 0
        ELSE (h.policy, h.epoch) <> (l.policy, l.epoch)
            OR float8send(h.reward) IS DISTINCT FROM float8send(l.reward)
            OR h.reward_kind IS DISTINCT FROM nullif(l.kind, 'reward')
    END
    ORDER BY 1, 2, 3, l.version, 4
    LIMIT 1
""")


def broken_link(connection: Connection, people: People) -> BrokenLink | None:
    """Return the first change that does not follow from the one before it of the same decision, if any."""
    row = connection.execute(_BROKEN_LINK, people._asdict()).one_or_none()
    return None if row is None else BrokenLink._make(row)


def contradiction(connection: Connection, people: People, history_from: datetime | None) -> Contradiction | None:
    """Return the first decision that is not what a decision of its changes can be, if any.

    Args:
        connection: where to look.
        people: whose decisions.
        history_from: decisions before it may be missing from the history; None: none may.
    """
    parameters = {
        **people._asdict(),
        "policies": list(DIMENSIONS),
        "dimensions": list(DIMENSIONS.values()),
        "first_kept": UUID(int=0) if history_from is None else first_id(history_from),
    }
    row = connection.execute(_CONTRADICTION, parameters).one_or_none()
    return None if row is None else Contradiction._make(row)
