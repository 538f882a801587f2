"""Traffic between policies: shares of the users, each change a row with its time and author."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import uuid_utils.compat as uuid_utils

from oo_ml.domain.traffic import Traffic, is_whole
from oo_ml.errors import OoMlError, TrafficRefusedError
from oo_ml.services.each import each
from oo_ml.services.policies.compiled import compile_row
from oo_ml.storage import policies, policy_traffic
from oo_ml.storage.policies import PolicyRow
from oo_ml.storage.policy_traffic import Decided, TrafficChange
from oo_ml.storage.postgres.sessions import Reading, Writing

__all__ = ["SetTrafficCommand", "Shares", "TrafficChange", "read_traffic", "set_traffic", "show_traffic"]

_CHANGES: Final = 100
# What /score knows: every policy of the traffic has to do with these fields.
_CONTEXT: Final[Mapping[str, Any]] = {"hour_of_day": 12, "day_of_week": 0}
_TASK: Final[Mapping[str, Any]] = {"is_overdue": False, "task_age_days": 0.0, "priority": 1}


@dataclass(frozen=True, slots=True)
class SetTrafficCommand:
    """Give each policy its share of the users."""

    shares: Mapping[str, float]
    changed_at: datetime
    changed_by: str


@each
def set_traffic(connection: Writing, command: SetTrafficCommand) -> TrafficChange | OoMlError:
    """Append a change. Refuse shares that are not of all users, and policies that /score can't decide by."""
    policy_traffic.lock(connection)
    if not is_whole(command.shares):
        total = sum(command.shares.values())
        return TrafficRefusedError(f"The shares must each be above 0 and sum to 1; their sum is {total:.6g}")
    # A policy can't be retired until this transaction ends, and then has traffic.
    found = policies.lock(connection, sorted(command.shares))
    for name in command.shares:
        if refusal := _find_refusal(name, found.get(name)):
            return TrafficRefusedError(refusal)
    before, change_id = policy_traffic.list_latest(connection, 1), uuid_utils.uuid7()
    if before and change_id <= before[0].change_id:
        return TrafficRefusedError(
            f"The last change is of {before[0].changed_at:%Y-%m-%d %H:%M:%S %Z}; the clock of this machine is behind it"
        )
    change = TrafficChange(
        change_id=change_id,
        changed_at=command.changed_at,
        changed_by=command.changed_by,
        # Another salt would give most users another policy.
        salt=before[0].salt if before else secrets.token_hex(8),
        shares=dict(command.shares),
    )
    policy_traffic.append(connection, change)
    return change


def read_traffic(connection: Reading) -> Traffic | None:
    """Return the shares now; None if they were never set: the policies of the contract decide."""
    latest = policy_traffic.list_latest(connection, 1)
    return Traffic(latest[0].salt, latest[0].shares) if latest else None


@dataclass(frozen=True, slots=True)
class Shares:
    """The traffic as it was set, and as it came.

    Attributes:
        changes: the latest first.
        decided: by policy, what was decided by traffic since the time asked for.
    """

    changes: list[TrafficChange]
    decided: Mapping[str, Decided]


@each
def show_traffic(connection: Reading, since: datetime) -> Shares:
    """Return the last changes, and what was decided by traffic since a time."""
    return Shares(policy_traffic.list_latest(connection, _CHANGES), policy_traffic.count_since(connection, since))


def _find_refusal(name: str, row: PolicyRow | None) -> str | None:
    if row is None:
        return f"Unknown policy: {name}"
    if row.status != "active":
        return f"Retired policy: {name}"
    bad = compile_row(row, {}).features.find_bad_field(_CONTEXT, [_TASK])
    if bad is None:
        return None
    where = "the context" if bad.candidate is None else "candidates"
    return (
        f"{name} reads the field {bad.field!r} of {where}, which /score does not have: give its input a value for"
        f" `missing`, or decide by /policies/{name}/score"
    )
