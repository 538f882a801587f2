"""reward_ledger: one row for each change of A and b, append only; a user's state is the fold of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from oo_ml.domain.learning import Change
from oo_ml.storage import states
from oo_ml.storage.history import Decided, DecisionKey, names
from oo_ml.storage.postgres import float_arrays
from oo_ml.storage.postgres.binary_columns import BigIntegers, Digests, Integers, Numbers, Texts, Times, Uuids
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.states import PolicyState, StateKey


@dataclass(frozen=True, slots=True)
class Once:
    """An Idempotency-Key with the SHA-256 of the call that it came with."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class LedgerRow:
    """A change as applied: it led from version - 1 of the epoch to `version`.

    Attributes:
        change: what was folded in; its x has shape (d,).
        decision_id: the decision it is for, if known.
        corrects: version of the row before this one of the same decision; None for its first.
        once: what the client named the call by, if it did.
    """

    key: StateKey
    epoch: int
    version: int
    recorded_at: datetime
    change: Change
    tip_id: str
    decision_id: UUID | None = None
    corrects: int | None = None
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A reward that came with an Idempotency-Key: the SHA-256 of its call, and what it was."""

    digest: bytes
    reward: float
    decision_id: UUID | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the ledger as a decision's receipt shows it."""

    version: int
    kind: str
    reward: float | None
    previous_reward: float | None
    recorded_at: datetime
    idempotency_key: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Latest:
    """The last row of a decision: which version it made, and the features that the reward was learned with."""

    version: int
    x: NDArray[np.float64]


# One statement for what a batch of changes leaves behind: the states, the rewards that now count in the history, the
# changes themselves.
_INSERT = Statement(f"""
    WITH saved AS ({states.SAVE}), rewarded AS (
        UPDATE oo_ml.feature_history AS h
        SET reward = d.reward, rewarded_at = d.rewarded_at, reward_kind = d.reward_kind
        FROM unnest(
            CAST(:decided_user_ids AS text[]), CAST(:decided_ids AS uuid[]), CAST(:decided_rewards AS float8[]),
            CAST(:rewarded_at AS timestamptz[]), CAST(:reward_kinds AS text[])
        ) AS d (user_id, decision_id, reward, rewarded_at, reward_kind)
        WHERE h.user_id = d.user_id AND h.decision_id = d.decision_id
    )
    INSERT INTO oo_ml.reward_ledger (
        user_id, policy, epoch, version, recorded_at, kind, reward, previous_reward, x, tip_id, decision_id, corrects,
        idempotency_key, request_digest
    )
    SELECT
        k.user_id, k.policy, k.epoch, k.version, k.recorded_at, k.kind, k.reward, k.previous_reward,
        {float_arrays.vector_sql("x", "k.x_offset", "k.dimension")},
        k.tip_id, k.decision_id, k.corrects, k.idempotency_key, k.request_digest
    FROM unnest(
        CAST(:user_ids AS text[]), CAST(:policies AS text[]), CAST(:epochs AS integer[]), CAST(:versions AS bigint[]),
        CAST(:recorded_at AS timestamptz[]), CAST(:kinds AS text[]), CAST(:rewards AS float8[]),
        CAST(:previous_rewards AS float8[]), CAST(:tip_ids AS text[]), CAST(:decision_ids AS uuid[]),
        CAST(:corrects AS bigint[]), CAST(:idempotency_keys AS text[]), CAST(:request_digests AS bytea[]),
        CAST(:dimensions AS integer[]), CAST(:x_offsets AS integer[])
    ) AS k (
        user_id, policy, epoch, version, recorded_at, kind, reward, previous_reward, tip_id, decision_id, corrects,
        idempotency_key, request_digest, dimension, x_offset
    )
""")

_LATEST = Statement("""
    SELECT k.user_id, k.decision_id, l.version, l.x
    FROM unnest(CAST(:user_ids AS text[]), CAST(:decision_ids AS uuid[])) AS k (user_id, decision_id)
    CROSS JOIN LATERAL (
        SELECT r.version, r.x
        FROM oo_ml.reward_ledger AS r
        WHERE r.user_id = k.user_id AND r.decision_id = k.decision_id
        ORDER BY r.version DESC
        LIMIT 1
    ) AS l
""")

_LENGTHS = Statement("""
    SELECT k.user_id, k.policy, k.epoch, coalesce(max(l.version), 0)
    FROM unnest(CAST(:user_ids AS text[]), CAST(:policies AS text[]), CAST(:epochs AS integer[]))
        AS k (user_id, policy, epoch)
    LEFT JOIN oo_ml.reward_ledger AS l ON l.user_id = k.user_id AND l.policy = k.policy AND l.epoch = k.epoch
    GROUP BY k.user_id, k.policy, k.epoch
""")

_RECORDED = Statement("""
    SELECT l.user_id, l.idempotency_key, l.request_digest, l.reward, l.decision_id
    FROM unnest(CAST(:user_ids AS text[]), CAST(:idempotency_keys AS text[])) AS k (user_id, idempotency_key)
    JOIN oo_ml.reward_ledger AS l ON l.user_id = k.user_id AND l.idempotency_key = k.idempotency_key
""")

_OF_DECISION = text("""
    SELECT version, kind, reward, previous_reward, recorded_at, idempotency_key
    FROM oo_ml.reward_ledger
    WHERE user_id = :user_id AND decision_id = :decision_id
    ORDER BY version
""")

_INSERT_IMPORT = text("""
    INSERT INTO oo_ml.reward_ledger (
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
    FROM oo_ml.policy_state AS s
    JOIN unnest(CAST(:user_ids AS text[]), CAST(:policies AS text[])) AS k (user_id, policy)
        ON s.user_id = k.user_id AND s.policy = k.policy
    JOIN oo_ml.reward_ledger AS l
        ON l.user_id = s.user_id AND l.policy = s.policy AND l.epoch = s.epoch AND l.version = s.version
    WHERE l.kind = 'import' AND l.start_pulls = s.pulls
""")


def insert(
    connection: Connection, rows: Sequence[LedgerRow], decided: Sequence[Decided], saved: Sequence[PolicyState]
) -> None:
    """Append `rows`, write what now counts for the decisions `decided`, each of them named once, and save states."""
    dimensions = [len(row.change.x) for row in rows]
    _INSERT.run(
        connection,
        {
            **states.saved(saved),
            "user_ids": Texts.of(row.key.user_id for row in rows),
            "policies": Texts.of(row.key.policy for row in rows),
            "epochs": Integers.of(row.epoch for row in rows),
            "versions": BigIntegers.of(row.version for row in rows),
            "recorded_at": Times.of(row.recorded_at for row in rows),
            "kinds": Texts.of(row.change.kind.value for row in rows),
            "rewards": Numbers.of(row.change.reward for row in rows),
            "previous_rewards": Numbers.of(row.change.previous_reward for row in rows),
            "tip_ids": Texts.of(row.tip_id for row in rows),
            "decision_ids": Uuids.of(row.decision_id for row in rows),
            "corrects": BigIntegers.of(row.corrects for row in rows),
            "idempotency_keys": Texts.of(None if row.once is None else row.once.key for row in rows),
            "request_digests": Digests.of(None if row.once is None else row.once.digest for row in rows),
            "dimensions": Integers.of(dimensions),
            "x": float_arrays.pack([row.change.x for row in rows]),
            "x_offsets": Integers.of(float_arrays.offsets(dimensions)),
            "decided_user_ids": Texts.of(one.user_id for one in decided),
            "decided_ids": Uuids.of(one.decision_id for one in decided),
            "decided_rewards": Numbers.of(one.reward for one in decided),
            "rewarded_at": Times.of(one.rewarded_at for one in decided),
            "reward_kinds": Texts.of(one.reward_kind and one.reward_kind.value for one in decided),
        },
    )


def latest(connection: Connection, decisions: Sequence[DecisionKey]) -> dict[DecisionKey, Latest]:
    """Return the last row of each decision that has any."""
    rows = _LATEST.run(connection, names(decisions))
    return {DecisionKey(user_id, decision_id): Latest(version, x) for user_id, decision_id, version, x in rows}


def lengths(connection: Connection, epochs: Sequence[tuple[StateKey, int]]) -> dict[tuple[StateKey, int], int]:
    """Return the last version of each epoch, 0 where it has no row."""
    rows = _LENGTHS.run(
        connection,
        {
            "user_ids": Texts.of(key.user_id for key, _ in epochs),
            "policies": Texts.of(key.policy for key, _ in epochs),
            "epochs": Integers.of(epoch for _, epoch in epochs),
        },
    )
    return {(StateKey(user_id, policy), epoch): version for user_id, policy, epoch, version in rows}


def recorded(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Recorded]:
    """Return the call that came before with each user's Idempotency-Key, if any did."""
    rows = _RECORDED.run(
        connection,
        {
            "user_ids": Texts.of(user_id for user_id, _ in keys),
            "idempotency_keys": Texts.of(key for _, key in keys),
        },
    )
    return {(user_id, key): Recorded(*call) for user_id, key, *call in rows}


def of_decision(connection: Connection, decision: DecisionKey) -> list[Entry]:
    """Return what was said of a decision's reward, oldest first."""
    return [Entry(*row) for row in connection.execute(_OF_DECISION, decision._asdict())]


def insert_imports(connection: Connection, imported: Sequence[PolicyState], recorded_at: datetime) -> None:
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
            for state in imported
        ],
    )


def only_imported(connection: Connection, keys: Sequence[StateKey]) -> set[StateKey]:
    """Return those of `keys` whose state is an import's to this day: no decision and no reward has come since."""
    rows = connection.execute(
        _ONLY_IMPORTED,
        {"user_ids": Texts.of(key.user_id for key in keys), "policies": Texts.of(key.policy for key in keys)},
    )
    return {StateKey(user_id, policy) for user_id, policy in rows}
