"""Erasing a person: every row of theirs in every table, at once; whoever comes back under that id is somebody new."""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection

from oo_ml.domain.policies import DIMENSIONS
from oo_ml.storage import people, states
from oo_ml.storage.states import StateKey


def erase(connection: Connection, user_ids: Sequence[str]) -> list[dict[str, int]]:
    """Delete all that is known of each person; return how many rows each table had of them."""
    # A decision or reward under way is waited for, and erased with the rest.
    states.lock(connection, [StateKey(user_id, policy) for user_id in user_ids for policy in DIMENSIONS])
    return [_erase(connection, user_id) for user_id in user_ids]


def _erase(connection: Connection, user_id: str) -> dict[str, int]:
    erased: Counter[str] = Counter()
    # Until nothing is left. A look can miss what moves meanwhile, such as a month of the history that is detached, or
    # what is learned beside it by somebody who had no state yet that could have been locked.
    while True:
        found = people.erase(connection, people.tables(connection), user_id)
        erased.update(found)
        if not any(found.values()):
            return dict(erased)
