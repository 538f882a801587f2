"""The table policies: definitions as they were published. Only the status and the erasures of a row change."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema.policy_tables import policies


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A row of policies.

    Attributes:
        status: active or retired.
        definition: JSON (oo_ml/definitions).
        dimension: the number of features d.
    """

    policy: str
    status: str
    published_at: datetime
    retired_at: datetime | None
    description: str
    definition: dict[str, Any]
    dimension: int


_COLUMNS = tuple(policies.c[name] for name in PolicyRow.__dataclass_fields__)
_LIST = select(*_COLUMNS).order_by(policies.c.published_at, policies.c.policy)
_DIMENSIONS = select(policies.c.policy, policies.c.dimension)
_ERASURES = select(policies.c.policy, policies.c.erasures)
_INSERT = upsert(policies).on_conflict_do_nothing().returning(policies.c.policy)


def list_all(connection: Reading, limit: int | None = None, offset: int = 0) -> list[PolicyRow]:
    """Return at most `limit` policies, None for all, oldest first, after the first `offset`."""
    return [PolicyRow(*row) for row in connection.execute(_LIST.limit(limit).offset(offset))]


def find(connection: Reading, names: Sequence[str]) -> dict[str, PolicyRow]:
    """Return the policies that exist among `names`, by name."""
    rows = connection.execute(select(*_COLUMNS).where(policies.c.policy.in_(names)))
    return {row.policy: PolicyRow(*row) for row in rows}


def read_dimensions(connection: Reading) -> dict[str, int]:
    """Return the number of features of each policy, retired ones too."""
    return {row.policy: row.dimension for row in connection.execute(_DIMENSIONS)}


def read_erasures(connection: Reading) -> dict[str, int]:
    """Return, by policy, the number of erased users who had rewards of it."""
    return {row.policy: row.erasures for row in connection.execute(_ERASURES)}


def count_erasures(connection: Writing, numbers: Mapping[str, int]) -> None:
    """Add to each policy the number of erased users from whom it may have learned: its prior is fitted again."""
    if numbers:
        lock(connection, list(numbers))
    for policy, number in numbers.items():
        changed = {"erasures": policies.c.erasures + number}
        connection.execute(update(policies).where(policies.c.policy == policy).values(changed))


def lock(connection: Writing, names: Sequence[str]) -> dict[str, PolicyRow]:
    """Lock the policies that exist among `names`, and return them by name: no other transaction retires them."""
    rows = connection.execute(_LIST.where(policies.c.policy.in_(names)).with_for_update(key_share=True))
    return {row.policy: PolicyRow(*row) for row in rows}


def insert(connection: Writing, row: PolicyRow) -> bool:
    """Insert a policy; return whether the name was free."""
    return connection.execute(_INSERT, asdict(row)).first() is not None


def retire(connection: Writing, name: str, retired_at: datetime) -> None:
    """Retire a policy; an already retired one keeps its date."""
    connection.execute(
        update(policies)
        .where(policies.c.policy == name, policies.c.status == "active")
        .values(status="retired", retired_at=retired_at)
    )
