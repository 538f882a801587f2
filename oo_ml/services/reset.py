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
    locked = states.lock(connection, keys)
    if locked:
        states.save(connection, [replace(states.fresh(key), epoch=state.epoch + 1) for key, state in locked.items()])
    return [None] * len(user_ids)
