"""The history of a prior: its versions, and the largest change from each to the next."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oo_ml.domain.population import Prior
from oo_ml.errors import OoMlError, UnknownPolicyError
from oo_ml.services.paging import Found, PageCommand, by_offset
from oo_ml.services.policies.compiled import read_policies
from oo_ml.storage import policy_priors
from oo_ml.storage.policy_priors import PriorRow
from oo_ml.storage.postgres.sessions import Reading


@dataclass(frozen=True, slots=True)
class PriorsCommand:
    """Ask for a page of the versions of a policy's prior."""

    policy: str
    page: PageCommand


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a prior.

    Attributes:
        labels: the features that the numbers of theta weigh, d.
        largest_change: see the function of this name; None if the version before has been deleted.
    """

    row: PriorRow
    labels: Sequence[str]
    largest_change: float | None


def list_priors(connection: Reading, commands: Sequence[PriorsCommand]) -> list[Found[Version, int] | OoMlError]:
    """Return a page of versions for each command, the latest first; a policy without a population has none."""
    found = read_policies(connection, {})
    return [
        _list(connection, one, found[one.policy].features.labels)
        if one.policy in found
        else UnknownPolicyError(f"Unknown policy: {one.policy}")
        for one in commands
    ]


def largest_change(before: Prior, after: Prior) -> float:
    """Return the largest change of a number of the mean, in standard deviations of users around it."""
    return float(np.max(np.abs(after.mean - before.mean) / np.sqrt(np.diag(after.covariance))))


def _list(connection: Reading, command: PriorsCommand, labels: Sequence[str]) -> Found[Version, int]:
    page = command.page
    # One more row than the page has: the version before its last one.
    rows = policy_priors.list_versions(connection, command.policy, page.limit + 1, page.offset)
    priors = {row.prior.version: row.prior for row in rows} | {0: Prior.initial(len(labels))}
    versions = []
    for row in rows:
        before = priors.get(row.prior.version - 1)
        versions.append(Version(row, labels, None if before is None else largest_change(before, row.prior)))
    return by_offset(versions, page)
