"""Starting a person afresh: a new epoch, whose history and ledger begin empty; the old ones are kept for analysts."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from oo_ml.domain.policies import DIMENSIONS
from oo_ml.storage import states
from oo_ml.storage.states import StateKey


def reset(connection: Connection, user_ids: Sequence[str]) -> list[None]:
    """Begin a new epoch of both policies for each user; one never seen stays unseen."""
    keys = [StateKey(user_id, policy) for user_id in user_ids for policy in DIMENSIONS]
    current = states.lock(connection, keys)
    for key in keys:
        if key in current:
            current[key] = replace(states.fresh(key), epoch=current[key].epoch + 1)
    if current:
        states.save(connection, list(current.values()))
    return [None] * len(user_ids)
