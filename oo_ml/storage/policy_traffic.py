"""The table policy_traffic: each change of the shares is a row, and the last one counts."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import insert, select, text

from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.policy_tables import policy_traffic


@dataclass(frozen=True, slots=True)
class TrafficChange:
    """A row of policy_traffic.

    Attributes:
        change_id: UUIDv7.
        changed_by: id of the API key, or (command line).
        shares: share of the users by policy, each above 0, sum 1.
    """

    change_id: UUID
    changed_at: datetime
    changed_by: str
    salt: str
    shares: dict[str, float]


class Decided(NamedTuple):
    """Numbers of decisions, and of users with one."""

    decisions: int
    users: int


_COLUMNS = tuple(policy_traffic.c[name] for name in TrafficChange.__dataclass_fields__)
_LATEST = select(*_COLUMNS).order_by(policy_traffic.c.change_id.desc())
# Two changes at once: the second one sees the first. Readers do not wait.
_LOCK = text("LOCK TABLE oo_ml.policy_traffic IN SHARE ROW EXCLUSIVE MODE")

_COUNT = text("""
    SELECT policy, count(*), count(DISTINCT user_id)
    FROM oo_ml.feature_history
    WHERE decided_at >= :since AND policy_probability IS NOT NULL
    GROUP BY policy
""")


def lock(connection: Writing) -> None:
    """Let no other transaction change the traffic until this one ends."""
    connection.execute(_LOCK)


def list_latest(connection: Reading, limit: int) -> list[TrafficChange]:
    """Return at most `limit` changes, the latest first."""
    return [TrafficChange(*row) for row in connection.execute(_LATEST.limit(limit))]


def count_since(connection: Reading, since: datetime) -> dict[str, Decided]:
    """Return, by policy, what was decided by traffic since a time."""
    return {
        policy: Decided(decisions, users) for policy, decisions, users in connection.execute(_COUNT, {"since": since})
    }


def append(connection: Writing, change: TrafficChange) -> None:
    """Append a change."""
    connection.execute(insert(policy_traffic), asdict(change))
