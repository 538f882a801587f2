"""policy_state: one row a user and policy. Whoever changes anything about the two locks it first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from oo_ml.domain.policies import DIMENSIONS
from oo_ml.domain.ridge import Ridge
from oo_ml.storage.postgres import float_arrays
from oo_ml.storage.postgres.binary_columns import BigIntegers, Integers, Numbers, Texts, Times, Uuids
from oo_ml.storage.postgres.statements import Statement


class StateKey(NamedTuple):
    """Names one row; keys sort as the database sorts them (by bytes), which is the order of locking."""

    user_id: str
    policy: str


@dataclass(frozen=True, slots=True)
class PolicyState:
    """One row of policy_state.

    Attributes:
        model: A, shape (d, d), and b, shape (d,).
        epoch: grows with each reset.
        version: rows of the ledger in this epoch.
    """

    key: StateKey
    model: Ridge
    epoch: int = 0
    version: int = 0
    pulls: int = 0
    explore_count: int = 0
    reward_count: int = 0
    cumulative_reward: float = 0.0
    last_updated: datetime | None = None


def fresh(key: StateKey) -> PolicyState:
    """Return the state of somebody never seen."""
    return PolicyState(key, Ridge.fresh(DIMENSIONS[key.policy]))


def later(before: datetime | None, now: datetime) -> datetime:
    """Return the later of two times: clocks of two machines differ, and a state's time never goes back."""
    return now if before is None else max(before, now)


_COLUMNS = """
    s.user_id, s.policy, s.epoch, s.version, s.pulls, s.explore_count, s.reward_count, s.cumulative_reward,
    s.last_updated, s.a, s.b
"""

_LOCK = f"""
    SELECT {_COLUMNS}
    FROM oo_ml.policy_state AS s
    JOIN unnest(CAST(:user_ids AS text[]), CAST(:policies AS text[])) AS k (user_id, policy)
        ON s.user_id = k.user_id AND s.policy = k.policy
    WHERE {{condition}}
    ORDER BY s.user_id, s.policy
    FOR NO KEY UPDATE OF s
"""

# A decision's policy never changes, so it may be looked up before the row that it leads to is locked.
_LOCK_DECIDED = f"""
    SELECT {_COLUMNS}
    FROM oo_ml.policy_state AS s
    JOIN (
        SELECT k.user_id, k.policy
        FROM unnest(CAST(:user_ids AS text[]), CAST(:policies AS text[])) AS k (user_id, policy)
        UNION
        SELECT h.user_id, h.policy
        FROM unnest(CAST(:decided_user_ids AS text[]), CAST(:decision_ids AS uuid[])) AS d (user_id, decision_id)
        JOIN oo_ml.feature_history AS h ON h.user_id = d.user_id AND h.decision_id = d.decision_id
    ) AS k ON s.user_id = k.user_id AND s.policy = k.policy
    WHERE {{condition}}
    ORDER BY s.user_id, s.policy
    FOR NO KEY UPDATE OF s
"""

# Looked at once, before any row is locked.
_ALL_THERE = """
    cardinality(CAST(:user_ids AS text[])) = (
        SELECT count(*)
        FROM unnest(CAST(:user_ids AS text[]), CAST(:policies AS text[])) AS k (user_id, policy)
        JOIN oo_ml.policy_state AS p ON p.user_id = k.user_id AND p.policy = k.policy
    )
"""

# By whether decisions are named too, and whether it is all of the rows or none.
_LOCKS = {
    (with_decisions, all_or_none): Statement(
        (_LOCK_DECIDED if with_decisions else _LOCK).format(condition=_ALL_THERE if all_or_none else "true")
    )
    for with_decisions in (False, True)
    for all_or_none in (False, True)
}

_READ = text(f"SELECT {_COLUMNS} FROM oo_ml.policy_state AS s WHERE s.user_id = :user_id")

_ROWS = f"""
    SELECT
        k.user_id, k.policy, k.epoch, k.version, k.pulls, k.explore_count, k.reward_count, k.cumulative_reward,
        k.last_updated,
        {float_arrays.matrix_sql("state_a", "k.a_offset", "k.dimension")} AS a,
        {float_arrays.vector_sql("state_b", "k.b_offset", "k.dimension")} AS b
    FROM unnest(
        CAST(:state_user_ids AS text[]), CAST(:state_policies AS text[]), CAST(:state_epochs AS integer[]),
        CAST(:state_versions AS bigint[]), CAST(:state_pulls AS bigint[]), CAST(:state_explore_counts AS bigint[]),
        CAST(:state_reward_counts AS bigint[]), CAST(:state_cumulative_rewards AS float8[]),
        CAST(:state_last_updated AS timestamptz[]), CAST(:state_dimensions AS integer[]),
        CAST(:state_a_offsets AS integer[]), CAST(:state_b_offsets AS integer[])
    ) AS k (
        user_id, policy, epoch, version, pulls, explore_count, reward_count, cumulative_reward, last_updated,
        dimension, a_offset, b_offset
    )
"""

_INSERT = text(f"""
    INSERT INTO oo_ml.policy_state AS s (
        user_id, policy, epoch, version, pulls, explore_count, reward_count, cumulative_reward, last_updated, a, b
    )
    {_ROWS}
    ON CONFLICT DO NOTHING
""")

# These two are statements of their own and parts of others; their parameters are those of `saved` and `counted`.
SAVE: Final = f"""
    UPDATE oo_ml.policy_state AS s
    SET epoch = r.epoch, version = r.version, pulls = r.pulls, explore_count = r.explore_count,
        reward_count = r.reward_count, cumulative_reward = r.cumulative_reward, last_updated = r.last_updated,
        a = r.a, b = r.b
    FROM ({_ROWS}) AS r
    WHERE s.user_id = r.user_id AND s.policy = r.policy
"""

COUNT: Final = """
    UPDATE oo_ml.policy_state AS s
    SET pulls = r.pulls, explore_count = r.explore_count, last_updated = r.last_updated
    FROM unnest(
        CAST(:state_user_ids AS text[]), CAST(:state_policies AS text[]), CAST(:state_pulls AS bigint[]),
        CAST(:state_explore_counts AS bigint[]), CAST(:state_last_updated AS timestamptz[])
    ) AS r (user_id, policy, pulls, explore_count, last_updated)
    WHERE s.user_id = r.user_id AND s.policy = r.policy
"""

_SAVE = text(SAVE)


def lock(
    connection: Connection,
    keys: Sequence[StateKey],
    decisions: Sequence[tuple[str, UUID]] = (),
    *,
    all_or_none: bool = False,
) -> dict[StateKey, PolicyState]:
    """Lock the rows that exist, in key order, until the transaction ends, and return them.

    Args:
        connection: in the transaction.
        keys: rows by their names.
        decisions: user ids and decision ids; the row that each was made from is locked too.
        all_or_none: whether to lock nothing when one of `keys` does not exist, so that it can be made first: whoever
            makes a row while holding others can wait in a circle with somebody who does the same.
    """
    ordered = sorted(set(keys))
    names: dict[str, Any] = {
        "user_ids": Texts.of(key.user_id for key in ordered),
        "policies": Texts.of(key.policy for key in ordered),
    }
    if decisions:
        names |= {
            "decided_user_ids": Texts.of(user_id for user_id, _ in decisions),
            "decision_ids": Uuids.of(decision_id for _, decision_id in decisions),
        }
    rows = _LOCKS[bool(decisions), all_or_none].run(connection, names)
    return {state.key: state for state in map(_state, rows)}


def make(connection: Connection, keys: Sequence[StateKey]) -> int:
    """Make the rows of `keys` that are missing, in key order; return how many.

    A row that another transaction is making at this moment is waited for, and left alone.
    """
    return connection.execute(_INSERT, saved([fresh(key) for key in sorted(set(keys))])).rowcount


def lock_or_create(connection: Connection, keys: Sequence[StateKey]) -> dict[StateKey, PolicyState]:
    """Lock the rows of `keys`, in key order, and return all of them; those that don't exist start afresh."""
    states = lock(connection, keys, all_or_none=True)
    # More than once only if somebody is erased just after they were made.
    while missing := set(keys) - states.keys():
        make(connection, list(missing))
        states |= lock(connection, list(missing))
    return states


def save(connection: Connection, states: Sequence[PolicyState]) -> None:
    """Write `states`, whose rows this transaction has locked."""
    connection.execute(_SAVE, saved(states))


def read(connection: Connection, user_id: str) -> Mapping[str, PolicyState]:
    """Return the states of a user by policy, without locking; a user never seen has none."""
    rows = connection.execute(_READ, {"user_id": user_id})
    return {state.key.policy: state for state in map(_state, rows)}


def counted(states: Sequence[PolicyState]) -> dict[str, Any]:
    """Return the parameters of COUNT for rows that this transaction has locked."""
    return {
        "state_user_ids": Texts.of(state.key.user_id for state in states),
        "state_policies": Texts.of(state.key.policy for state in states),
        "state_pulls": BigIntegers.of(state.pulls for state in states),
        "state_explore_counts": BigIntegers.of(state.explore_count for state in states),
        "state_last_updated": Times.of(state.last_updated for state in states),
    }


def saved(states: Sequence[PolicyState]) -> dict[str, Any]:
    """Return the parameters of SAVE for rows that this transaction has locked."""
    dimensions = [state.model.dimension for state in states]
    return {
        **counted(states),
        "state_epochs": Integers.of(state.epoch for state in states),
        "state_versions": BigIntegers.of(state.version for state in states),
        "state_reward_counts": BigIntegers.of(state.reward_count for state in states),
        "state_cumulative_rewards": Numbers.of(state.cumulative_reward for state in states),
        "state_dimensions": Integers.of(dimensions),
        "state_a": float_arrays.pack([state.model.A for state in states]),
        "state_a_offsets": Integers.of(float_arrays.offsets([d * d for d in dimensions])),
        "state_b": float_arrays.pack([state.model.b for state in states]),
        "state_b_offsets": Integers.of(float_arrays.offsets(dimensions)),
    }


def _state(row: Sequence[Any]) -> PolicyState:
    user_id, policy, *counters, a, b = row
    return PolicyState(StateKey(user_id, policy), Ridge(a, b), *counters)
