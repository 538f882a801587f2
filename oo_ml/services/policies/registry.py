"""The registry of policies: publish, list and show. A published policy never changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oo_ml import definitions
from oo_ml.domain.evaluation import targets
from oo_ml.errors import (
    InvalidDefinitionError,
    OoMlError,
    PolicyExistsError,
    ReservedPolicyNameError,
    UnknownPolicyError,
)
from oo_ml.services.each import each
from oo_ml.services.paging import Found, PageCommand, by_offset
from oo_ml.storage import policies
from oo_ml.storage.policies import PolicyRow
from oo_ml.storage.postgres.sessions import Reading, Writing

__all__ = ["PolicyRow", "PublishCommand", "list_policies", "publish", "show"]


@dataclass(frozen=True, slots=True)
class PublishCommand:
    """Publish `definition`, a JSON object, under a name."""

    policy: str
    description: str
    definition: Mapping[str, Any]
    published_at: datetime


@each
def list_policies(connection: Reading, page: PageCommand) -> Found[PolicyRow, int]:
    """Return a page of the policies, retired ones included, the oldest first."""
    return by_offset(policies.list_all(connection, page.limit + 1, page.offset), page)


def show(connection: Reading, names: Sequence[str]) -> list[PolicyRow | OoMlError]:
    """Return each policy, or the error that it is unknown."""
    found = policies.find(connection, names)
    return [found.get(name) or UnknownPolicyError(f"Unknown policy: {name}") for name in names]


@each
def publish(connection: Writing, command: PublishCommand) -> PolicyRow | OoMlError:
    """Store a new policy. Refuse a name that is taken or reserved, and a definition that can't work."""
    if command.policy in targets.RESERVED:
        return ReservedPolicyNameError(
            f"No policy can be called {command.policy}: `oo-ml evaluate` has a target of this name; choose another"
        )
    try:
        definition = definitions.parse(command.definition)
    except InvalidDefinitionError as error:
        return error
    row = PolicyRow(
        policy=command.policy,
        status="active",
        published_at=command.published_at,
        retired_at=None,
        description=command.description,
        definition=dict(command.definition),
        dimension=definitions.compile_policy(command.policy, definition).features.dimension,
    )
    if not policies.insert(connection, row):
        return PolicyExistsError(f"Policy {command.policy} is published already; a published policy never changes")
    return row
