"""feature_history read: to learn from a decision, to explain one, to list the latest. decisions.py writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from oo_ml.domain.learning import Kind
from oo_ml.storage.postgres.binary_columns import Integers, Texts, Uuids
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.states import StateKey

HISTORY_LENGTH = 100


class DecisionKey(NamedTuple):
    """Names one row."""

    user_id: str
    decision_id: UUID


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """What has to be known of a decision to learn from it.

    Attributes:
        state_key: whose model, of which policy.
        epoch: the one it was made in.
        x: features of the chosen tip, shape (d,).
        reward: the one that counts, None so far or retracted.
        rewarded_at: when that came.
        reward_kind: None as first received or none so far; else default, amend or retract.
    """

    user_id: str
    decision_id: UUID
    policy: str
    epoch: int
    tip_id: str
    x: NDArray[np.float64]
    reward: float | None
    rewarded_at: datetime | None
    reward_kind: Kind | None

    @property
    def key(self) -> DecisionKey:
        """The row's name."""
        return DecisionKey(self.user_id, self.decision_id)

    @property
    def state_key(self) -> StateKey:
        """The name of the state that it was made from."""
        return StateKey(self.user_id, self.policy)

    @property
    def is_open(self) -> bool:
        """Whether nothing has been said of it so far."""
        return self.reward is None and self.reward_kind is None

    @property
    def awaits_reaction(self) -> bool:
        """Whether no person's reaction has come: it is open, or has a default."""
        return self.is_open or self.reward_kind is Kind.DEFAULT


@dataclass(frozen=True, slots=True, eq=False)
class StoredDecision:
    """A decision with all that explains it: the columns of its row. See DecisionRow and Decided."""

    user_id: str
    decision_id: UUID
    policy: str
    epoch: int
    version: int
    decided_at: datetime
    score: float
    propensity: float
    exploring: bool
    tip_id: str
    content: str | None
    prompt_version: str | None
    prompt_probability: float | None
    generation_id: UUID | None
    x: NDArray[np.float64]
    context: dict[str, Any]
    features: dict[str, Any]
    candidates: list[dict[str, Any]]
    answer: dict[str, Any]
    reward: float | None
    rewarded_at: datetime | None
    reward_kind: str | None
    exploration: float | None
    alpha: float | None
    exploit: NDArray[np.float64] | None
    explore: NDArray[np.float64] | None
    propensities: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A decision as /features shows it."""

    decided_at: datetime
    features: dict[str, Any]
    score: float
    tip_id: str
    policy: str


_DECIDED_COLUMNS = "h.user_id, h.decision_id, h.policy, h.epoch, h.tip_id, h.x, h.reward, h.rewarded_at, h.reward_kind"

_DECIDED = Statement(f"""
    SELECT {_DECIDED_COLUMNS}
    FROM unnest(CAST(:user_ids AS text[]), CAST(:decision_ids AS uuid[])) AS k (user_id, decision_id)
    JOIN oo_ml.feature_history AS h ON h.user_id = k.user_id AND h.decision_id = k.decision_id
""")

_LATEST = Statement(f"""
    SELECT {_DECIDED_COLUMNS}
    FROM unnest(
        CAST(:user_ids AS text[]), CAST(:policies AS text[]), CAST(:epochs AS integer[]), CAST(:tip_ids AS text[]),
        CAST(:counts AS integer[])
    ) AS k (user_id, policy, epoch, tip_id, count)
    CROSS JOIN LATERAL (
        SELECT *
        FROM oo_ml.feature_history AS u
        WHERE u.user_id = k.user_id AND u.policy = k.policy AND u.epoch = k.epoch AND u.tip_id = k.tip_id
            AND (u.reward IS NULL AND u.reward_kind IS NULL OR u.reward_kind = 'default')
        ORDER BY u.position DESC
        LIMIT k.count
    ) AS h
    ORDER BY h.position DESC
""")

_STORED = text(f"""
    SELECT {", ".join(field.name for field in fields(StoredDecision))}
    FROM oo_ml.feature_history
    WHERE user_id = :user_id AND decision_id = :decision_id
""")

_RECENT = text("""
    SELECT h.decided_at, h.features, h.score, h.tip_id, h.policy
    FROM oo_ml.policy_state AS s
    CROSS JOIN LATERAL (
        SELECT *
        FROM oo_ml.feature_history AS f
        WHERE f.user_id = s.user_id AND f.policy = s.policy AND f.epoch = s.epoch
        ORDER BY f.position DESC
        LIMIT :length
    ) AS h
    WHERE s.user_id = :user_id
    ORDER BY h.position DESC
    LIMIT :length
""")


def decided(connection: Connection, keys: Sequence[DecisionKey]) -> dict[DecisionKey, Decided]:
    """Return those of the decisions named that there are; lock their states first, and nobody changes them."""
    return {one.key: one for one in map(_decided, _DECIDED.run(connection, names(keys)))}


@dataclass(frozen=True, slots=True)
class TipKey:
    """Names the decisions for one tip in one epoch."""

    state_key: StateKey
    epoch: int
    tip_id: str


def latest(connection: Connection, counts: Mapping[TipKey, int]) -> dict[TipKey, list[Decided]]:
    """Return for each tip so many of its decisions that await a reaction, the latest first.

    Lock their states first, and nobody changes them.
    """
    rows = _LATEST.run(
        connection,
        {
            "user_ids": Texts.of(tip.state_key.user_id for tip in counts),
            "policies": Texts.of(tip.state_key.policy for tip in counts),
            "epochs": Integers.of(tip.epoch for tip in counts),
            "tip_ids": Texts.of(tip.tip_id for tip in counts),
            "counts": Integers.of(counts.values()),
        },
    )
    found: dict[TipKey, list[Decided]] = {tip: [] for tip in counts}
    for one in map(_decided, rows):
        found[TipKey(one.state_key, one.epoch, one.tip_id)].append(one)
    return found


def stored(connection: Connection, key: DecisionKey) -> StoredDecision | None:
    """Return a decision with all that explains it, None if there is none of that name."""
    row = connection.execute(_STORED, key._asdict()).one_or_none()
    return None if row is None else StoredDecision(*row)


def recent(connection: Connection, user_id: str) -> list[HistoryEntry]:
    """Return the last 100 decisions of the user's current epochs, both policies, oldest first."""
    rows = connection.execute(_RECENT, {"user_id": user_id, "length": HISTORY_LENGTH})
    return [HistoryEntry(*row) for row in rows][::-1]


def names(keys: Sequence[DecisionKey]) -> dict[str, Any]:
    """Return the parameters user_ids and decision_ids."""
    return {
        "user_ids": Texts.of(key.user_id for key in keys),
        "decision_ids": Uuids.of(key.decision_id for key in keys),
    }


def _decided(row: Sequence[Any]) -> Decided:
    user_id, decision_id, policy, epoch, tip_id, x, reward, rewarded_at, kind = row
    return Decided(
        user_id, decision_id, policy, epoch, tip_id, x, reward, rewarded_at, None if kind is None else Kind(kind)
    )
