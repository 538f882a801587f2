"""Ranges of user ids, by which audit and evaluation read all users in parts.

Each query over a range walks an index that begins with user_id. It also finds rows of users without a state.
"""

from typing import Final, NamedTuple

from sqlalchemy import text

from oo_ml.storage.postgres.sessions import Reading


class UserRange(NamedTuple):
    """All users from the id `first` to the id `last`, both included, in byte order."""

    first: str
    last: str

    @classmethod
    def of(cls, user_id: str) -> "UserRange":
        """Return the range of one user."""
        return cls(user_id, user_id)


# An id has at most 200 bytes, and no character sorts after this one.
ALL_USERS: Final = UserRange("", "\U0010ffff" * 50)
WITHIN: Final = "user_id BETWEEN CAST(:first AS text) AND CAST(:last AS text)"

_COUNT_STATES = text(f"SELECT count(*) FROM oo_ml.policy_state WHERE {WITHIN}")

_LAST_USER = text("""
    SELECT user_id
    FROM oo_ml.policy_state
    WHERE user_id >= CAST(:first AS text)
    ORDER BY user_id, policy
    OFFSET :before
    LIMIT 1
""")

_SAMPLE = text("SELECT user_id FROM oo_ml.policy_state GROUP BY user_id ORDER BY random() LIMIT :size")


def count_states(connection: Reading, users: UserRange) -> int:
    """Return the number of states."""
    count: int = connection.execute(_COUNT_STATES, users._asdict()).scalar_one()
    return count


def find_range(connection: Reading, first: str, size: int) -> UserRange:
    """Return the range from the id `first` that holds `size` states, or up to the last id if there are fewer.

    All states of a user are in the same range.
    """
    last = connection.scalar(_LAST_USER, {"first": first, "before": size - 1})
    return UserRange(first, ALL_USERS.last if last is None else last)


def next_id(user_id: str) -> str:
    """Return the text that sorts directly after an id."""
    # PostgreSQL stores no smaller character.
    return user_id + "\x01"


def sample_users(connection: Reading, size: int) -> list[str]:
    """Return up to `size` random users who have a state, in order."""
    return sorted(connection.scalars(_SAMPLE, {"size": size}))
