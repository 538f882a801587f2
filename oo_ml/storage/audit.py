"""What verifying reads, as it is at one moment: states, the ledger page by page, how many decisions there are.

Everything is asked of a range of people, so that it walks along indexes that begin with user_id, and so that rows of
somebody who has no state lie in a range as well.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from oo_ml.storage.postgres import engine
from oo_ml.storage.states import StateKey

Numbers = NDArray[np.float64]


class People(NamedTuple):
    """Everybody from the id `first` to the id `last`, both included, as bytes sort them."""

    first: str
    last: str


# No id sorts behind 200 bytes of the last character there is.
EVERYBODY: Final = People("", "\U0010ffff" * 50)


class StateRow(NamedTuple):
    """A row of policy_state."""

    user_id: str
    policy: str
    epoch: int
    version: int
    pulls: int
    explore_count: int
    reward_count: int
    cumulative_reward: float
    a: Numbers
    b: Numbers

    @property
    def key(self) -> StateKey:
        """Whose state it is."""
        return StateKey(self.user_id, self.policy)


class ChangeRow(NamedTuple):
    """A row of reward_ledger."""

    user_id: str
    policy: str
    epoch: int
    version: int
    kind: str
    reward: float | None
    previous_reward: float | None
    x: Numbers | None
    start_pulls: int
    start_explore_count: int
    start_reward_count: int
    start_cumulative_reward: float
    start_a: Numbers | None
    start_b: Numbers | None

    @property
    def key(self) -> StateKey:
        """Whose change it is."""
        return StateKey(self.user_id, self.policy)


class Decisions(NamedTuple):
    """How many decisions the history holds.

    Attributes:
        last_epoch: the latest epoch that any was made in.
        in_all: of every epoch.
        pulls, explored: of the state's epoch; how many there are, and how many were drawn at random.
    """

    user_id: str
    policy: str
    last_epoch: int
    in_all: int
    pulls: int
    explored: int

    @property
    def key(self) -> StateKey:
        """Whose decisions they are."""
        return StateKey(self.user_id, self.policy)


WITHIN: Final = "user_id BETWEEN CAST(:first AS text) AND CAST(:last AS text)"

# Retention takes whole partitions out of the history. It waits for whoever has locked the history, and what it has
# done by then is in the snapshot: this lock, unlike a query, takes none.
_LOCK = text("LOCK TABLE oo_ml.feature_history IN ACCESS SHARE MODE")

_HISTORY_FROM = text("SELECT done_until FROM oo_ml.upkeep WHERE task = 'retention'")

_COUNT_STATES = text(f"SELECT count(*) FROM oo_ml.policy_state WHERE {WITHIN}")

_LAST_OF = text("""
    SELECT user_id
    FROM oo_ml.policy_state
    WHERE user_id >= CAST(:first AS text)
    ORDER BY user_id, policy
    OFFSET :before
    LIMIT 1
""")

_SAMPLE = text("SELECT user_id FROM oo_ml.policy_state GROUP BY user_id ORDER BY random() LIMIT :size")

_STATES = text(f"""
    SELECT
        user_id, policy, epoch, version, pulls, explore_count, reward_count, cumulative_reward,
        a, b
    FROM oo_ml.policy_state
    WHERE {WITHIN}
    ORDER BY user_id, policy
""")

_LEDGER = text("""
    SELECT
        user_id, policy, epoch, version, kind, reward, previous_reward, x,
        start_pulls, start_explore_count, start_reward_count, start_cumulative_reward,
        start_a, start_b
    FROM oo_ml.reward_ledger
    WHERE (user_id, policy, epoch, version)
            > (CAST(:user_id AS text), CAST(:policy AS text), CAST(:epoch AS integer), CAST(:version AS bigint))
        AND user_id <= CAST(:last AS text)
    ORDER BY user_id, policy, epoch, version
    LIMIT :size
""")

_DECISIONS = text(f"""
    SELECT
        h.user_id, h.policy, max(h.epoch), count(*), count(*) FILTER (WHERE h.epoch = s.epoch),
        count(*) FILTER (WHERE h.epoch = s.epoch AND h.exploring)
    FROM oo_ml.feature_history AS h
    LEFT JOIN oo_ml.policy_state AS s ON s.user_id = h.user_id AND s.policy = h.policy
    WHERE h.{WITHIN}
    GROUP BY h.user_id, h.policy
    ORDER BY h.user_id, h.policy
    LIMIT :limit
""")


def begin(connection: Connection) -> None:
    """Make all that the transaction reads be as it is at one moment, retention included; the first statement of it."""
    engine.snapshot(connection)
    connection.execute(_LOCK)


def next_after(user_id: str) -> str:
    """Return the text that sorts right behind an id."""
    # PostgreSQL stores no smaller character than this.
    return user_id + "\x01"


def part(connection: Connection, first: str, size: int) -> People:
    """Return everybody from `first` to whoever has the last of the next `size` states; if there are fewer, to the end.

    A person's states are never parted.
    """
    last = connection.scalar(_LAST_OF, {"first": first, "before": size - 1})
    return People(first, EVERYBODY.last if last is None else last)


def sample(connection: Connection, size: int) -> list[str]:
    """Return up to `size` people who have a state, drawn at random, in order."""
    return sorted(connection.scalars(_SAMPLE, {"size": size}))


def count_states(connection: Connection, people: People) -> int:
    """Return how many states there are."""
    count: int = connection.execute(_COUNT_STATES, people._asdict()).scalar_one()
    return count


def history_from(connection: Connection) -> datetime | None:
    """Return the moment before which retention has taken decisions out of the history; None: it never has."""
    moment: datetime | None = connection.scalar(_HISTORY_FROM)
    return moment


def states(connection: Connection, people: People) -> list[StateRow]:
    """Return the states of `people`, in order."""
    return [StateRow._make(row) for row in connection.execute(_STATES, people._asdict())]


def ledger(connection: Connection, people: People, page_size: int) -> Iterator[ChangeRow]:
    """Yield the ledger of `people`, in order; no more than `page_size` rows are in memory at once."""
    # Neither a policy is empty nor an epoch negative: everything of `first` is behind this.
    position: Sequence[Any] = (people.first, "", -1, 0)
    while True:
        user_id, policy, epoch, version = position
        page = connection.execute(
            _LEDGER,
            {
                "user_id": user_id,
                "policy": policy,
                "epoch": epoch,
                "version": version,
                "last": people.last,
                "size": page_size,
            },
        ).all()
        yield from map(ChangeRow._make, page)
        if len(page) < page_size:
            return
        position = page[-1][:4]


def decisions(connection: Connection, people: People, limit: int) -> list[Decisions]:
    """Return how many decisions each of `people` has by each policy, in order; of the first `limit` of those."""
    return [Decisions._make(row) for row in connection.execute(_DECISIONS, {**people._asdict(), "limit": limit})]
