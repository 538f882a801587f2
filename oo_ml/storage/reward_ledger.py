"""reward_ledger: one entry for each change of A and b, append only. A state is the fold of its entries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from oo_ml.domain.learning import Change, Kind
from oo_ml.storage import feature_history, policy_state
from oo_ml.storage.decision_types import Decision, DecisionKey
from oo_ml.storage.policy_state import PolicyState, StateKey
from oo_ml.storage.postgres.rows import Rows, attributes
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.schema.decision_tables import reward_ledger


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An Idempotency-Key, and the SHA-256 of the call that it came with."""

    value: str
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class LedgerEntry:
    """A change of the model from version - 1 of the epoch to `version`.

    Attributes:
        change: what is folded in; its x has shape (d,).
        decision_id: the decision that the reward is for, if known.
        corrects: version of the previous entry for the same decision; None for the first.
        idempotency_key: of the call, if it had one.
        origin_decision_id: WARM: the decision of another policy that had the reward.
    """

    key: StateKey
    epoch: int
    version: int
    recorded_at: datetime
    change: Change
    tip_id: str
    decision_id: UUID | None = None
    corrects: int | None = None
    idempotency_key: IdempotencyKey | None = None
    origin_decision_id: UUID | None = None


class EpochKey(NamedTuple):
    """Name of the entries of one epoch."""

    state_key: StateKey
    epoch: int


class CallKey(NamedTuple):
    """Name of a call: a user's Idempotency-Key."""

    user_id: str
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class NamedReward:
    """A reward that came with an Idempotency-Key, and the SHA-256 of its call."""

    digest: bytes
    reward: float
    decision_id: UUID | None


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """An entry as the receipt of a decision shows it."""

    version: int
    kind: str
    reward: float | None
    previous_reward: float | None
    recorded_at: datetime
    idempotency_key: str | None


@dataclass(frozen=True, slots=True, eq=False)
class LatestEntry:
    """The last entry for a decision: its version, and the features that the reward was learned with."""

    version: int
    x: NDArray[np.float64]


_ENTRIES: Final = Rows[LedgerEntry](
    "entry",
    reward_ledger,
    {
        **attributes("key.user_id", "key.policy", "epoch", "version", "recorded_at"),
        **attributes("change.kind", "change.reward", "change.previous_reward", "change.x", "change.weight"),
        **attributes("tip_id", "decision_id", "corrects", "origin_decision_id"),
        "idempotency_key": lambda entry: entry.idempotency_key and entry.idempotency_key.value,
        "request_digest": lambda entry: entry.idempotency_key and entry.idempotency_key.digest,
    },
)

# One statement for everything that a batch of rewards changes: states, rewards in the history, entries.
_INSERT = Statement(f"""
    WITH saved AS ({policy_state.SAVED.update_sql()}), rewarded AS ({feature_history.SET_REWARDS})
    {_ENTRIES.insert_sql()}
""")

_IMPORTS: Final = Rows[tuple[PolicyState, datetime]](
    "entry",
    reward_ledger,
    {
        "user_id": lambda entry: entry[0].key.user_id,
        "policy": lambda entry: entry[0].key.policy,
        "epoch": lambda entry: entry[0].epoch,
        "version": lambda entry: entry[0].version,
        "recorded_at": lambda entry: entry[1],
        "kind": lambda _: Kind.IMPORT,
        "start_pulls": lambda entry: entry[0].pulls,
        "start_explore_count": lambda entry: entry[0].explore_count,
        "start_reward_count": lambda entry: entry[0].reward_count,
        "start_cumulative_reward": lambda entry: entry[0].cumulative_reward,
        "start_a": lambda entry: entry[0].evidence.A,
        "start_b": lambda entry: entry[0].evidence.b,
    },
)

_INSERT_IMPORTS = Statement(_IMPORTS.insert_sql())

_READ_LATEST = Statement(f"""
    SELECT key.user_id, key.decision_id, l.version, l.x
    FROM {feature_history.KEYS.source}
    CROSS JOIN LATERAL (
        SELECT r.version, r.x
        FROM oo_ml.reward_ledger AS r
        WHERE r.user_id = key.user_id AND r.decision_id = key.decision_id
        ORDER BY r.version DESC
        LIMIT 1
    ) AS l
""")

EPOCHS: Final = Rows[EpochKey]("key", reward_ledger, attributes("state_key.user_id", "state_key.policy", "epoch"))

_READ_LAST_VERSIONS = Statement(f"""
    SELECT key.user_id, key.policy, key.epoch, coalesce(max(l.version), 0)
    FROM {EPOCHS.source}
    LEFT JOIN oo_ml.reward_ledger AS l ON l.user_id = key.user_id AND l.policy = key.policy AND l.epoch = key.epoch
    GROUP BY key.user_id, key.policy, key.epoch
""")

_CALLS: Final = Rows[CallKey]("key", reward_ledger, attributes(*CallKey._fields))

_READ_NAMED_REWARDS = Statement(f"""
    SELECT l.user_id, l.idempotency_key, l.request_digest, l.reward, l.decision_id
    FROM {_CALLS.source}
    JOIN oo_ml.reward_ledger AS l ON l.user_id = key.user_id AND l.idempotency_key = key.idempotency_key
""")

_READ_ENTRIES_OF_DECISION = text("""
    SELECT version, kind, reward, previous_reward, recorded_at, idempotency_key
    FROM oo_ml.reward_ledger
    WHERE user_id = :user_id AND decision_id = :decision_id
    ORDER BY version
""")

_FIND_UNUSED_IMPORTS = Statement(f"""
    SELECT s.user_id, s.policy
    FROM oo_ml.policy_state AS s
    JOIN {policy_state.KEYS.source} ON s.user_id = key.user_id AND s.policy = key.policy
    JOIN oo_ml.reward_ledger AS l
        ON l.user_id = s.user_id AND l.policy = s.policy AND l.epoch = s.epoch AND l.version = s.version
    WHERE l.kind = 'import' AND l.start_pulls = s.pulls
""")


def insert_entries(
    connection: Writing,
    entries: Sequence[LedgerEntry],
    rewarded: Sequence[Decision],
    saved: Sequence[PolicyState],
) -> None:
    """Append `entries`, write the rewards of the decisions `rewarded`, each of them named once, and save states."""
    _INSERT.run(
        connection,
        {
            **policy_state.SAVED.parameters(saved),
            **feature_history.REWARDS.parameters(rewarded),
            **_ENTRIES.parameters(entries),
        },
    )


def insert_imports(connection: Writing, imported: Sequence[PolicyState], recorded_at: datetime) -> None:
    """Append one entry a state, which carries all of it: the fold of the epoch starts from it."""
    _INSERT_IMPORTS.run(connection, _IMPORTS.parameters([(state, recorded_at) for state in imported]))


def read_latest_entries(connection: Reading, keys: Sequence[DecisionKey]) -> dict[DecisionKey, LatestEntry]:
    """Return the last entry of each decision that has any."""
    rows = _READ_LATEST.run(connection, feature_history.KEYS.parameters(keys))
    return {DecisionKey(user_id, decision_id): LatestEntry(version, x) for user_id, decision_id, version, x in rows}


def read_last_versions(connection: Reading, epochs: Sequence[EpochKey]) -> dict[EpochKey, int]:
    """Return the last version of each epoch, 0 where it has no entry."""
    rows = _READ_LAST_VERSIONS.run(connection, EPOCHS.parameters(epochs))
    return {EpochKey(StateKey(user_id, policy), epoch): version for user_id, policy, epoch, version in rows}


def read_named_rewards(connection: Reading, keys: Sequence[CallKey]) -> dict[CallKey, NamedReward]:
    """Return the rewards that came before with the same Idempotency-Keys."""
    rows = _READ_NAMED_REWARDS.run(connection, _CALLS.parameters(keys))
    return {CallKey(user_id, key): NamedReward(*reward) for user_id, key, *reward in rows}


def read_entries_of_decision(connection: Reading, key: DecisionKey) -> list[ReceiptEntry]:
    """Return the entries for a decision, oldest first."""
    return [ReceiptEntry(*row) for row in connection.execute(_READ_ENTRIES_OF_DECISION, key._asdict())]


def find_unused_imports(connection: Reading, keys: Sequence[StateKey]) -> set[StateKey]:
    """Return the keys of states without a decision or reward since their import."""
    return {StateKey(*row) for row in _FIND_UNUSED_IMPORTS.run(connection, policy_state.KEYS.parameters(keys))}
