"""Retiring a policy: it makes no more decisions, and learns from late rewards."""

from collections.abc import Sequence
from datetime import datetime

from oo_ml.errors import OoMlError, PolicyInUseError
from oo_ml.services.policies.registry import PolicyRow, show
from oo_ml.services.policies.traffic import read_traffic
from oo_ml.storage import policies
from oo_ml.storage.postgres.sessions import Writing


def retire(connection: Writing, names: Sequence[str], *, retired_at: datetime) -> list[PolicyRow | OoMlError]:
    """Retire policies. Retiring again changes nothing. Refuse a policy with traffic."""
    policies.lock(connection, names)
    traffic = read_traffic(connection)
    in_use = set() if traffic is None else set(traffic.shares)
    for name in set(names) - in_use:
        policies.retire(connection, name, retired_at)
    return [
        PolicyInUseError(f"{one.policy} has traffic: give its share to others by `oo-ml policies traffic` first")
        if isinstance(one, PolicyRow) and one.policy in in_use
        else one
        for one in show(connection, names)
    ]
