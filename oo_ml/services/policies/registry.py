"""The registry of policies: publish, list, show and retire. A published policy never changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oo_ml import definitions
from oo_ml.errors import InvalidDefinitionError, OoMlError, PolicyExistsError, PolicyInUseError, UnknownPolicyError
from oo_ml.services.each import each
from oo_ml.services.paging import Found, PageCommand, by_offset
from oo_ml.services.policies.traffic import read_traffic
from oo_ml.storage import policies
from oo_ml.storage.policies import PolicyRow
from oo_ml.storage.postgres.sessions import Reading, Writing

__all__ = ["PolicyRow", "PublishCommand", "list_policies", "publish", "retire", "show"]


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
    """Store a new policy. Refuse a name that is taken, and a definition that can't work."""
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


def retire(connection: Writing, names: Sequence[str], *, retired_at: datetime) -> list[PolicyRow | OoMlError]:
    """Retire policies: they make no more decisions. Retiring again changes nothing. Refuse a policy with traffic."""
    policies.lock(connection, names)
    traffic = read_traffic(connection)
    in_use = () if traffic is None else traffic.shares.keys()
    for name in set(names) - set(in_use):
        policies.retire(connection, name, retired_at)
    return [
        PolicyInUseError(f"{policy.policy} has traffic: give its share to others by `oo-ml policies traffic` first")
        if isinstance(policy, PolicyRow) and policy.policy in in_use
        else policy
        for policy in show(connection, names)
    ]
