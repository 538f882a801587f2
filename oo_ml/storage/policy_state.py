"""policy_state: one row a user and policy. A transaction locks the row before it changes anything about the two."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from oo_ml.domain.evidence import Evidence
from oo_ml.storage.postgres.binary_columns import Texts
from oo_ml.storage.postgres.rows import Rows, attributes
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.schema.decision_tables import feature_history, policy_state
from oo_ml.storage.user_ranges import WITHIN, UserRange


class StateKey(NamedTuple):
    """Name of a row; keys sort as the database sorts them (by bytes), which is the order of locking."""

    user_id: str
    policy: str


@dataclass(frozen=True, slots=True)
class PolicyState:
    """Row of policy_state.

    Attributes:
        evidence: A, shape (d, d), and b, shape (d,).
        epoch: grows with each reset.
        version: number of ledger entries in this epoch.
    """

    key: StateKey
    evidence: Evidence
    epoch: int = 0
    version: int = 0
    pulls: int = 0
    explore_count: int = 0
    reward_count: int = 0
    cumulative_reward: float = 0.0
    last_updated: datetime | None = None


def keep_later(before: datetime | None, now: datetime) -> datetime:
    """Return the later of two times: clocks of two machines differ, and a state's time never goes back."""
    return now if before is None else max(before, now)


# In the order of PolicyState: `_states` reads them so.
_COUNTERS: Final = [field.name for field in fields(PolicyState)][2:]
_COLUMNS: Final = attributes(
    "key.user_id",
    "key.policy",
    *_COUNTERS,
    "evidence.A",
    "evidence.b",
    "evidence.weight",
    "evidence.squares",
)
_DECISION_COLUMNS: Final = ("user_id", "policy", "pulls", "explore_count", "last_updated")

# The columns that a reward changes, and those that a decision changes. Their UPDATEs are parts of other statements.
SAVED: Final = Rows("state", policy_state, _COLUMNS)
COUNTED: Final = Rows("state", policy_state, {column: _COLUMNS[column] for column in _DECISION_COLUMNS})

_SAVE = Statement(SAVED.update_sql())

_CREATE = Statement(f"{SAVED.insert_sql()} ON CONFLICT DO NOTHING RETURNING user_id")

KEYS: Final = Rows[StateKey]("key", policy_state, attributes(*StateKey._fields))

_SELECT: Final = f"SELECT {', '.join(f's.{column}' for column in _COLUMNS)} FROM oo_ml.policy_state AS s"

_IN_ORDER: Final = "ORDER BY s.user_id, s.policy FOR NO KEY UPDATE OF s"

# All rows or none. The condition is checked once, before any row is locked.
_ALL_EXIST: Final = f"""
    WHERE cardinality(CAST(:key_user_id AS text[])) = (
        SELECT count(*)
        FROM {KEYS.source}
        JOIN oo_ml.policy_state AS p ON p.user_id = key.user_id AND p.policy = key.policy
    )
"""

_LOCK = Statement(f"""
    {_SELECT}
    JOIN {KEYS.source} ON s.user_id = key.user_id AND s.policy = key.policy
    {_ALL_EXIST}
    {_IN_ORDER}
""")

_DECISIONS: Final = Rows[tuple[str, UUID]](
    "decision", feature_history, {"user_id": lambda key: key[0], "decision_id": lambda key: key[1]}
)

# A decision's policy never changes, so it may be looked up before the row that it leads to is locked.
_LOCK_WITH_DECISIONS = Statement(f"""
    {_SELECT}
    JOIN (
        SELECT key.user_id, key.policy
        FROM {KEYS.source}
        UNION
        SELECT h.user_id, h.policy
        FROM {_DECISIONS.source}
        JOIN oo_ml.feature_history AS h ON h.user_id = decision.user_id AND h.decision_id = decision.decision_id
    ) AS k ON s.user_id = k.user_id AND s.policy = k.policy
    {_ALL_EXIST}
    {_IN_ORDER}
""")

_LOCK_USERS = Statement(f"""
    {_SELECT}
    JOIN unnest(CAST(:user_ids AS text[])) AS k (user_id) ON s.user_id = k.user_id
    {_IN_ORDER}
""")

_READ = text(f"{_SELECT} WHERE s.user_id = :user_id")

_READ_RANGE = text(f"{_SELECT} WHERE s.{WITHIN} ORDER BY s.user_id, s.policy")


def lock_states(
    connection: Writing, keys: Collection[StateKey], decisions: Sequence[tuple[str, UUID]] = ()
) -> dict[StateKey, PolicyState]:
    """Lock the rows of `keys` in key order until the transaction ends; lock nothing if any of them does not exist.

    The states that `decisions`, by user id and decision id, were made from are locked too.
    """
    parameters = KEYS.parameters(sorted(set(keys)))
    if not decisions:
        return _states(_LOCK.run(connection, parameters))
    parameters |= _DECISIONS.parameters(decisions)
    return _states(_LOCK_WITH_DECISIONS.run(connection, parameters))


def lock_users(connection: Writing, user_ids: Iterable[str]) -> dict[StateKey, PolicyState]:
    """Lock the rows that exist of the users, in key order, until the transaction ends."""
    return _states(_LOCK_USERS.run(connection, {"user_ids": Texts.of(sorted(set(user_ids)))}))


def create_states(connection: Writing, fresh: Mapping[StateKey, Evidence]) -> int:
    """Create the rows of these keys that don't exist, in key order; return their number.

    `fresh` has, for each key, the evidence of its policy before the first reward.

    If another transaction is creating one of these rows, wait for that transaction, and keep its row.
    """
    states = [PolicyState(key, fresh[key]) for key in sorted(fresh)]
    return len(_CREATE.run(connection, SAVED.parameters(states)))


def lock_or_create_states(
    connection: Writing,
    fresh: Mapping[StateKey, Evidence],
    decisions: Sequence[tuple[str, UUID]] = (),
    *,
    needed: Callable[[], Collection[StateKey]] | None = None,
) -> dict[StateKey, PolicyState]:
    """Lock the rows of the keys of `fresh`, and create those that don't exist, with that evidence.

    A transaction never creates a row while it holds locks on rows that others can see. Otherwise two transactions could
    wait for each other in a circle (ADR 19).

    If some of them don't exist, `needed` is called and returns the keys that have to: only those are created and
    locked. `decisions` are as in `lock_states`.
    """
    # Once more only if a user is erased right after the rows were created.
    while not (states := lock_states(connection, fresh, decisions)).keys() >= fresh.keys():
        if needed is not None:
            fresh = {key: fresh[key] for key in needed()}
        create_states(connection, fresh)
    return states


def save_states(connection: Writing, states: Sequence[PolicyState]) -> None:
    """Write `states`, whose rows this transaction has locked."""
    _SAVE.run(connection, SAVED.parameters(states))


def read_states(connection: Reading, user_id: str) -> Mapping[str, PolicyState]:
    """Return the states of a user by policy, without locking; a new user has none."""
    states = _states(connection.execute(_READ, {"user_id": user_id}))
    return {key.policy: state for key, state in states.items()}


def read_range(connection: Reading, users: UserRange) -> dict[StateKey, PolicyState]:
    """Return the states of `users` in key order, without locking."""
    return _states(connection.execute(_READ_RANGE, users._asdict()))


def _states(rows: Iterable[Sequence[Any]]) -> dict[StateKey, PolicyState]:
    states = {}
    for user_id, policy, *counters, a, b, weight, squares in rows:
        key = StateKey(user_id, policy)
        states[key] = PolicyState(key, Evidence(a, b, weight, squares), *counters)
    return states
