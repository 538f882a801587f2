"""Retiring a policy: it makes no more decisions, and learns from late rewards."""

from collections.abc import Sequence
from datetime import datetime

from oo_ml.domain.policies import OF_CONTRACT
from oo_ml.errors import OoMlError, PolicyInUseError
from oo_ml.services.policies.registry import PolicyRow, show
from oo_ml.services.policies.traffic import read_traffic
from oo_ml.storage import policies
from oo_ml.storage.postgres.sessions import Writing


def retire(connection: Writing, names: Sequence[str], *, retired_at: datetime) -> list[PolicyRow | OoMlError]:
    """Retire policies. Retiring again changes nothing. Refuse those with traffic, and those of the contract."""
    policies.lock(connection, names)
    traffic = read_traffic(connection)
    # Without traffic /score decides by the first of these; /score/egreedy always by the second.
    in_use = {*OF_CONTRACT, *(() if traffic is None else traffic.shares)}
    for name in set(names) - in_use:
        policies.retire(connection, name, retired_at)
    return [
        _refuse(one.policy) if isinstance(one, PolicyRow) and one.policy in in_use else one
        for one in show(connection, names)
    ]


def _refuse(name: str) -> PolicyInUseError:
    if name in OF_CONTRACT:
        return PolicyInUseError(f"{name} can't be retired: the calls /score and /score/egreedy need it")
    return PolicyInUseError(f"{name} has traffic: give its share to others by `oo-ml policies traffic` first")
