"""feature_history, read and written: one row a decision. A row changes only when its reward does (SET_REWARDS)."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import text

from oo_ml.domain.learning import Kind
from oo_ml.storage import policy_state
from oo_ml.storage.decision_types import (
    Decision,
    DecisionKey,
    DecisionRow,
    RecentDecision,
    StoredAnswer,
    StoredDecision,
    TipKey,
)
from oo_ml.storage.policy_state import PolicyState
from oo_ml.storage.postgres.binary_columns import Integers
from oo_ml.storage.postgres.rows import Rows, attributes
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.schema.decision_tables import feature_history

RECENT: Final = 100

_ROWS: Final = Rows[DecisionRow](
    "new",
    feature_history,
    attributes("key.user_id", "key.policy", *(name for name in DecisionRow._fields if name != "key")),
)

# The prompt version comes from the candidate, else from the latest generated tip of that id; generation and probability
# are those of the latest such tip that this version wrote.
_VALUES: Final = _ROWS.values | {
    "content": "coalesce(new.content, left(tip.content, 2000))",
    "prompt_version": "coalesce(new.prompt_version, tip.prompt_version)",
    "prompt_probability": "tip.prompt_probability",
    "generation_id": "tip.generation_id",
}

# ORDER BY gives positions in the order of the batch.
_INSERT = Statement(f"""
    WITH counted AS ({policy_state.COUNTED.update_sql()})
    INSERT INTO oo_ml.feature_history ({", ".join(_VALUES)})
    SELECT {", ".join(_VALUES.values())}
    FROM {_ROWS.source}
    LEFT JOIN LATERAL (
        SELECT t.prompt_version, t.prompt_probability, t.generation_id, t.content
        FROM oo_ml.tips AS t
        WHERE t.user_id = new.user_id AND t.tip_id = new.tip_id
            AND (new.prompt_version IS NULL OR t.prompt_version = new.prompt_version)
        ORDER BY t.generation_id DESC
        LIMIT 1
    ) AS tip ON true
    ORDER BY new.place
""")

# The only UPDATE of the table: the statement that writes the ledger embeds it (ledger.py).
REWARDS: Final = Rows[Decision](
    "rewarded", feature_history, attributes("user_id", "decision_id", "reward", "rewarded_at", "reward_kind")
)
SET_REWARDS: Final = REWARDS.update_sql()

KEYS: Final = Rows[DecisionKey]("key", feature_history, attributes(*DecisionKey._fields))

_OF_KEYS: Final = f"""
    FROM {KEYS.source}
    JOIN oo_ml.feature_history AS h ON h.user_id = key.user_id AND h.decision_id = key.decision_id
"""

_READ_ANSWERS = Statement(f"SELECT h.user_id, h.decision_id, h.request_digest, h.answer {_OF_KEYS}")

_DECISION: Final = ", ".join(f"h.{field.name}" for field in fields(Decision))

_READ = Statement(f"SELECT {_DECISION} {_OF_KEYS}")

_TIPS: Final = Rows[TipKey](
    "key", feature_history, attributes("state_key.user_id", "state_key.policy", "epoch", "tip_id")
)

_READ_AWAITING = Statement(f"""
    SELECT {_DECISION}
    FROM {_TIPS.source}
    CROSS JOIN LATERAL (
        SELECT *
        FROM oo_ml.feature_history AS u
        WHERE u.user_id = key.user_id AND u.policy = key.policy AND u.epoch = key.epoch AND u.tip_id = key.tip_id
            AND (u.reward IS NULL AND u.reward_kind IS NULL OR u.reward_kind = 'default')
        ORDER BY u.position DESC
        LIMIT (CAST(:counts AS integer[]))[key.place]
    ) AS h
    ORDER BY h.position DESC
""")

_READ_STORED = text(f"""
    SELECT {", ".join(field.name for field in fields(StoredDecision))}
    FROM oo_ml.feature_history
    WHERE user_id = :user_id AND decision_id = :decision_id
""")

_READ_RECENT = text("""
    SELECT h.decided_at, h.context, h.features, h.exploring, h.score, h.tip_id, h.policy
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


def insert_decisions(connection: Writing, rows: Sequence[DecisionRow], counted: Sequence[PolicyState]) -> None:
    """Write decisions in the order in which they were made, and the counters of their states."""
    _INSERT.run(connection, {**policy_state.COUNTED.parameters(counted), **_ROWS.parameters(rows)})


def read_answers(connection: Reading, keys: Sequence[DecisionKey]) -> dict[DecisionKey, StoredAnswer]:
    """Return the answers of those decisions that were made before."""
    rows = _READ_ANSWERS.run(connection, KEYS.parameters(keys))
    return {DecisionKey(user_id, decision_id): StoredAnswer(*answer) for user_id, decision_id, *answer in rows}


def read_decisions(connection: Reading, keys: Sequence[DecisionKey]) -> dict[DecisionKey, Decision]:
    """Return those decisions that exist. Lock their states first: then no other transaction changes them."""
    return {one.key: one for one in map(_decision, _READ.run(connection, KEYS.parameters(keys)))}


def read_awaiting_decisions(connection: Reading, counts: Mapping[TipKey, int]) -> dict[TipKey, list[Decision]]:
    """Return, for each tip, up to so many of its decisions that await a reaction, the latest first.

    Lock their states first: then no other transaction changes them.
    """
    rows = _READ_AWAITING.run(connection, {**_TIPS.parameters(list(counts)), "counts": Integers.of(counts.values())})
    found: dict[TipKey, list[Decision]] = {tip: [] for tip in counts}
    for one in map(_decision, rows):
        found[TipKey(one.state_key, one.epoch, one.tip_id)].append(one)
    return found


def read_stored_decision(connection: Reading, key: DecisionKey) -> StoredDecision | None:
    """Return a decision with everything that explains it, or None if it does not exist."""
    row = connection.execute(_READ_STORED, key._asdict()).one_or_none()
    return None if row is None else StoredDecision(*row)


def read_recent_decisions(connection: Reading, user_id: str) -> list[RecentDecision]:
    """Return the last RECENT decisions of the user's current epochs, all policies together, oldest first."""
    rows = connection.execute(_READ_RECENT, {"user_id": user_id, "length": RECENT})
    return [RecentDecision(*row) for row in rows][::-1]


def _decision(row: Sequence[Any]) -> Decision:
    *others, kind = row
    return Decision(*(*others, None if kind is None else Kind(kind)))
