"""Resetting a user: a new epoch, with an empty history and ledger; the old ones are kept for analysts."""

from collections import Counter
from collections.abc import Sequence

from oo_ml.storage.policy_state import PolicyState, lock_users, save_states
from oo_ml.storage.postgres.sessions import Writing


def reset(connection: Writing, user_ids: Sequence[str]) -> list[None]:
    """Begin a new epoch of every policy for each user; a new user gets no row."""
    states = lock_users(connection, user_ids)
    # A batch may name a user twice.
    times = Counter(user_ids)
    fresh = [
        PolicyState(key, state.evidence.fresh(), epoch=state.epoch + times[key.user_id])
        for key, state in states.items()
    ]
    if fresh:
        save_states(connection, fresh)
    return [None] * len(user_ids)
