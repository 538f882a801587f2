"""Resetting a user: a new epoch, with an empty history and ledger; the old ones are kept for analysts."""

from collections.abc import Sequence
from dataclasses import replace

from oo_ml.domain.policies import DIMENSIONS
from oo_ml.storage.policy_state import PolicyState, StateKey, lock_users, save_states
from oo_ml.storage.postgres.sessions import Writing


def reset(connection: Writing, user_ids: Sequence[str]) -> list[None]:
    """Begin a new epoch of both policies for each user; a new user gets no row."""
    states = lock_users(connection, user_ids)
    for key in (StateKey(user_id, policy) for user_id in user_ids for policy in DIMENSIONS):
        if key in states:
            states[key] = replace(PolicyState.fresh(key), epoch=states[key].epoch + 1)
    if states:
        save_states(connection, list(states.values()))
    return [None] * len(user_ids)
