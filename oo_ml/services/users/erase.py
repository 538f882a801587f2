"""Erasure of a user: every row in every table, in one transaction. A later decision creates the user again."""

from collections import Counter
from collections.abc import Sequence

from oo_ml.domain.evidence import Evidence
from oo_ml.storage import daily_sums, personal_data, policies, upkeep
from oo_ml.storage.policy_state import PolicyState, StateKey, create_states, lock_users
from oo_ml.storage.postgres.sessions import Writing


def erase(connection: Writing, user_ids: Sequence[str]) -> list[dict[str, int]]:
    """Delete every row of each user; return the number of rows deleted from each table."""
    # Take this lock before the locks on states. Counting, or another erasure, may hold it for long, and meanwhile the
    # users' decisions and rewards go on. This cannot deadlock: counting locks no state, and no transaction that holds
    # a lock on a state waits for counting.
    upkeep.exclude(connection, upkeep.DAYS)
    fresh = {policy: Evidence.alone(d) for policy, d in policies.read_dimensions(connection).items()}
    # Wait for decisions and rewards under way, to erase them too. A new user has no state to lock yet. Creating the
    # states makes the erasure wait for the first decision too.
    made = {
        user_id: create_states(connection, {StateKey(user_id, policy): one for policy, one in fresh.items()})
        for user_id in sorted(set(user_ids))
    }
    states = lock_users(connection, user_ids)
    for user_id in made:
        daily_sums.subtract_user(connection, user_id)
    # The latest prior may have been fitted to the user, also if a reset came after.
    fitted = Counter(key.policy for key, one in states.items() if _may_be_fitted(one))
    erased = [_erase(connection, user_id, made.pop(user_id, 0)) for user_id in user_ids]
    # Last, because others who lock a policy wait from here to the end.
    policies.count_erasures(connection, fitted)
    return erased


def _may_be_fitted(state: PolicyState) -> bool:
    return state.evidence.weight is not None and (state.version > 0 or state.epoch > 0)


def _erase(connection: Writing, user_id: str, made: int) -> dict[str, int]:
    erased: Counter[str] = Counter({personal_data.STATE: -made})
    # Repeat until nothing is left: a pass misses rows that move meanwhile, for example when a month is detached.
    while True:
        found = personal_data.erase(connection, personal_data.find_tables(connection), user_id)
        erased.update(found)
        if not any(found.values()):
            return dict(sorted(erased.items()))
