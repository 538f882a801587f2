"""The rows that `verify` reads beside the states, all as of one moment: ledger, number of decisions.

Two queries compare each decision with its ledger entries. One finds an entry that does not follow from the entry
before it. The other finds a decision that disagrees with its last entry. A third one compares weights with times.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text

from oo_ml.domain.identifiers import first_id
from oo_ml.domain.learning import StoredEntry
from oo_ml.domain.population import START
from oo_ml.storage.postgres import engine
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.user_ranges import WITHIN, UserRange


class DecisionCounts(NamedTuple):
    """The number of decisions of a user and policy in feature_history.

    Attributes:
        last_epoch: the latest epoch with a decision.
        in_all: decisions of all epochs.
        pulls, explored: decisions of the state's epoch, and those of them with `exploring`.
    """

    user_id: str
    policy: str
    last_epoch: int
    in_all: int
    pulls: int
    explored: int


class EntryConflict(NamedTuple):
    """A ledger entry that does not follow from the previous entry of the same decision.

    Attributes:
        column: the column that is wrong.
        before_...: the previous entry; None if this is the decision's first.
    """

    user_id: str
    policy: str
    epoch: int
    version: int
    decision_id: UUID
    column: str
    kind: str
    corrects: int | None
    previous_reward: float | None
    weight: float | None
    before_policy: str | None
    before_epoch: int | None
    before_version: int | None
    before_kind: str | None
    before_reward: float | None
    before_weight: float | None


class DecisionConflict(NamedTuple):
    """A decision that is missing from feature_history, has an x of the wrong length, or disagrees with its last entry.

    Attributes:
        user_id, policy, epoch: as in feature_history; as in the ledger if the decision is missing.
        in_history: whether feature_history holds the decision.
        dimension: the length that x must have; None if x has it.
        x_length: the length of x; None if the decision is missing.
        ledger_...: the decision's last ledger entry; None if it has none.
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
    weight: float | None
    ledger_policy: str | None
    ledger_epoch: int | None
    ledger_version: int | None
    ledger_reward: float | None
    ledger_kind: str | None
    ledger_weight: float | None


class WeightConflict(NamedTuple):
    """A decision or a ledger entry with another weight than its policy gives it at its time.

    Attributes:
        version: of the ledger entry; None: it is the decision.
        decision_id: None: the entry is about no decision, or about one of another policy.
        expected: the weight; None: the policy is not pooled.
        is_limit: `expected` is only the highest weight that it can have, because its decision is not there any more.
    """

    user_id: str
    policy: str
    epoch: int
    version: int | None
    decision_id: UUID | None
    expected: float | None
    is_limit: bool
    found: float | None


# Detaching a partition takes an exclusive lock on the table. LOCK waits for it without taking a snapshot, so the
# snapshot of the statements after it sees a finished detach.
_LOCK_HISTORY = text("LOCK TABLE oo_ml.feature_history IN ACCESS SHARE MODE")

_LEDGER = text(f"""
    SELECT {", ".join(StoredEntry._fields)}
    FROM oo_ml.reward_ledger
    WHERE (user_id, policy, epoch, version)
            > (CAST(:user_id AS text), CAST(:policy AS text), CAST(:epoch AS integer), CAST(:version AS bigint))
        AND user_id <= CAST(:last AS text)
    ORDER BY user_id, policy, epoch, version
    LIMIT :size
""")

_DECISION_COUNTS = text(f"""
    SELECT
        h.user_id, h.policy, max(h.epoch), count(*), count(*) FILTER (WHERE h.epoch = s.epoch),
        count(*) FILTER (WHERE h.epoch = s.epoch AND h.exploring)
    FROM oo_ml.feature_history AS h
    LEFT JOIN oo_ml.policy_state AS s ON s.user_id = h.user_id AND s.policy = h.policy
    WHERE h.{WITHIN}
    GROUP BY h.user_id, h.policy
    ORDER BY h.user_id, h.policy
    LIMIT :limit
""")

# float8send and array_send compare bits: 0 = -0 in SQL. One CASE finds the entry and names the column, so that the
# two can't disagree.
_ENTRY_CONFLICT = text(f"""
    SELECT
        e.user_id, e.policy, e.epoch, e.version, e.decision_id, found.wrong_column, e.kind, e.corrects,
        e.previous_reward, e.weight, e.before_policy, e.before_epoch, e.before_version, e.before_kind, e.before_reward,
        e.before_weight
    FROM (
        SELECT
            user_id, policy, epoch, version, decision_id, kind, corrects, previous_reward, weight, x,
            lag(policy) OVER own AS before_policy, lag(epoch) OVER own AS before_epoch,
            lag(version) OVER own AS before_version, lag(kind) OVER own AS before_kind,
            lag(reward) OVER own AS before_reward, lag(weight) OVER own AS before_weight, lag(x) OVER own AS before_x
        FROM oo_ml.reward_ledger
        WHERE {WITHIN} AND decision_id IS NOT NULL
        WINDOW own AS (PARTITION BY user_id, decision_id ORDER BY policy, epoch, version)
    ) AS e
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN (e.policy, e.epoch) <> (e.before_policy, e.before_epoch) THEN 'epoch'
            WHEN e.corrects IS DISTINCT FROM e.before_version THEN 'corrects'
            WHEN e.kind <> ALL (
                CASE
                    WHEN e.before_version IS NULL THEN ARRAY['reward', 'default']
                    WHEN e.before_kind = 'retract' THEN ARRAY['reward']
                    ELSE ARRAY['amend', 'retract']
                END
            ) THEN 'kind'
            WHEN e.before_version IS NOT NULL
                AND float8send(e.weight) IS DISTINCT FROM float8send(e.before_weight) THEN 'weight'
            WHEN e.kind NOT IN ('amend', 'retract') THEN NULL
            WHEN float8send(e.previous_reward) IS DISTINCT FROM float8send(e.before_reward) THEN 'previous_reward'
            WHEN array_send(e.x) IS DISTINCT FROM array_send(e.before_x) THEN 'x'
        END AS wrong_column
    ) AS found
    WHERE found.wrong_column IS NOT NULL
    ORDER BY e.user_id, e.policy, e.epoch, e.version
    LIMIT 1
""")

_DECISION_CONFLICT = text(f"""
    SELECT
        coalesce(h.user_id, l.user_id) AS user_id, coalesce(h.policy, l.policy) AS policy,
        coalesce(h.epoch, l.epoch) AS epoch, coalesce(h.decision_id, l.decision_id) AS decision_id,
        h.decision_id IS NOT NULL AS in_history,
        CASE WHEN h.x_length = h.dimension THEN NULL ELSE h.dimension END AS dimension, h.x_length,
        h.reward, h.reward_kind, h.weight,
        l.policy, l.epoch, l.version, l.reward, l.kind, l.weight
    FROM (
        SELECT
            m.user_id, m.decision_id, m.policy, m.epoch, m.reward, m.reward_kind, m.weight, p.dimension,
            cardinality(m.x) AS x_length
        FROM oo_ml.feature_history AS m
        LEFT JOIN oo_ml.policies AS p ON p.policy = m.policy
        WHERE m.{WITHIN}
    ) AS h
    FULL JOIN (
        SELECT DISTINCT ON (user_id, decision_id)
            user_id, decision_id, policy, epoch, version, reward, kind, weight
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
            OR float8send(h.weight) IS DISTINCT FROM float8send(l.weight)
    END
    ORDER BY 1, 2, 3, l.version, 4
    LIMIT 1
""")


# Machines round powers differently: the last bits of a weight may differ. If the decision of an entry is not there any
# more, it was made before the entry; a day more, because the clocks of services differ. The power is limited, because
# PostgreSQL refuses a result that overflows. Entries without a weight are left to the fold.
_WEIGHT_CONFLICT = text(f"""
    SELECT
        w.user_id, w.policy, w.epoch, w.version, w.decision_id, e.weight AS expected,
        NOT w.is_known AND e.weight IS NOT NULL AS is_limit, w.weight AS found
    FROM (
        SELECT
            user_id, policy, epoch, CAST(NULL AS bigint) AS version, decision_id, weight, decided_at AS at,
            true AS is_known
        FROM oo_ml.feature_history
        WHERE {WITHIN}
        UNION ALL
        SELECT
            l.user_id, l.policy, l.epoch, l.version, l.decision_id, l.weight,
            coalesce(h.decided_at, l.recorded_at),
            h.decision_id IS NOT NULL OR num_nonnulls(l.decision_id, l.origin_decision_id) = 0
        FROM oo_ml.reward_ledger AS l
        LEFT JOIN oo_ml.feature_history AS h
            ON h.user_id = l.user_id AND h.decision_id = coalesce(l.decision_id, l.origin_decision_id) AND h.{WITHIN}
        WHERE l.{WITHIN} AND l.weight IS NOT NULL
    ) AS w
    LEFT JOIN unnest(CAST(:policies AS text[]), CAST(:half_lives AS float8[])) AS p (policy, half_life)
        ON p.policy = w.policy
    CROSS JOIN LATERAL (
        SELECT CAST(extract(epoch FROM w.at) AS float8) - :start + CASE WHEN w.is_known THEN 0 ELSE 86400 END AS seconds
    ) AS t
    CROSS JOIN LATERAL (
        SELECT CASE WHEN p.half_life > 0 THEN
            power(CAST(2 AS float8), least(greatest(t.seconds / p.half_life, -1000), 1000))
        END AS weight
    ) AS e
    WHERE CASE
        WHEN num_nulls(w.weight, e.weight) > 0 THEN num_nulls(w.weight, e.weight) = 1
        WHEN w.is_known THEN abs(w.weight - e.weight) > 1e-12 * e.weight
        ELSE w.weight > (1 + 1e-12) * e.weight
    END
    ORDER BY w.user_id, w.policy, w.epoch, w.version, w.decision_id
    LIMIT 1
""")


def begin_snapshot(connection: Reading) -> None:
    """Make the transaction read everything as of one moment, retention included; call it before any other statement."""
    engine.snapshot(connection)
    connection.execute(_LOCK_HISTORY)


def read_ledger(connection: Reading, users: UserRange, page_size: int) -> Iterator[StoredEntry]:
    """Yield the ledger of `users` by user, policy, epoch and version, with at most `page_size` entries in memory."""
    # No policy is empty and no epoch negative, so all entries of the first user come after this.
    after: Sequence[Any] = (users.first, "", -1, 0)
    while True:
        cursor = dict(zip(("user_id", "policy", "epoch", "version"), after, strict=True))
        page = connection.execute(_LEDGER, {**cursor, "last": users.last, "size": page_size}).all()
        yield from map(StoredEntry._make, page)
        if len(page) < page_size:
            return
        after = page[-1][:4]


def count_decisions(connection: Reading, users: UserRange, limit: int) -> list[DecisionCounts]:
    """Return the number of decisions by user and policy, in order; at most `limit` rows."""
    rows = connection.execute(_DECISION_COUNTS, {**users._asdict(), "limit": limit})
    return [DecisionCounts._make(row) for row in rows]


def find_entry_conflict(connection: Reading, users: UserRange) -> EntryConflict | None:
    """Return the first ledger entry that does not follow from the previous entry of the same decision, if any."""
    row = connection.execute(_ENTRY_CONFLICT, users._asdict()).one_or_none()
    return None if row is None else EntryConflict._make(row)


def find_decision_conflict(
    connection: Reading, users: UserRange, history_from: datetime | None
) -> DecisionConflict | None:
    """Return the first decision that disagrees with its ledger entries, if any.

    Decisions before `history_from` may be missing from feature_history; None: no decision may.
    """
    parameters = {
        **users._asdict(),
        "first_kept": UUID(int=0) if history_from is None else first_id(history_from),
    }
    row = connection.execute(_DECISION_CONFLICT, parameters).one_or_none()
    return None if row is None else DecisionConflict._make(row)


def find_weight_conflict(
    connection: Reading, users: UserRange, half_lives: Mapping[str, timedelta | None]
) -> WeightConflict | None:
    """Return the first decision or ledger entry whose weight does not follow from its policy and time, if any.

    `half_lives` has that of each pooled policy; None: its weights are 1.
    """
    parameters = {
        **users._asdict(),
        "policies": list(half_lives),
        "half_lives": [math.inf if one is None else one.total_seconds() for one in half_lives.values()],
        "start": START.timestamp(),
    }
    row = connection.execute(_WEIGHT_CONFLICT, parameters).one_or_none()
    return None if row is None else WeightConflict._make(row)
