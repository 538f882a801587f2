"""Erasing a person: every row of theirs in every table, at once; whoever comes back under that id is somebody new."""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection

from oo_ml.domain.policies import DIMENSIONS
from oo_ml.storage import daily_sums, personal_data, upkeep
from oo_ml.storage.states import StateKey, create_states, lock_users


def erase(connection: Connection, user_ids: Sequence[str]) -> list[dict[str, int]]:
    """Delete all that is known of each person; return how many rows each table had of them."""
    keys = {user_id: [StateKey(user_id, policy) for policy in DIMENSIONS] for user_id in user_ids}
    # Before any state: a step of counting, or another erasure, may take long, and the users' decisions and rewards go
    # on meanwhile. No deadlock: counting locks no state, and no transaction that locks a state waits for counting.
    upkeep.exclude(connection, upkeep.DAYS)
    # A decision or reward under way is waited for, and erased with the rest: the first one that somebody ever has, too,
    # which has no state yet that could be locked.
    made = {user_id: create_states(connection, keys[user_id]) for user_id in sorted(keys)}
    lock_users(connection, keys)
    for user_id in keys:
        daily_sums.subtract_user(connection, user_id)
    return [_erase(connection, user_id, made.pop(user_id, 0)) for user_id in user_ids]


def _erase(connection: Connection, user_id: str, made: int) -> dict[str, int]:
    erased: Counter[str] = Counter({personal_data.STATE: -made})
    # Until nothing is left: a look can miss what moves meanwhile, such as a month of the history that is detached.
    while True:
        found = personal_data.erase(connection, personal_data.tables(connection), user_id)
        erased.update(found)
        if not any(found.values()):
            return dict(sorted(erased.items()))
