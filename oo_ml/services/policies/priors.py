"""The history of a prior: its versions, and the largest change from each to the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

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
class MeanCoefficient:
    """A number of theta of the mean user, and the standard deviation of users around it."""

    label: str
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class PriorVersion:
    """A version of a prior, for reading.

    Attributes:
        mean: one number for each feature, d.
        largest_change: of a number of the mean since the version before, in standard deviations of users; None: that
            version has been deleted.
    """

    version: int
    fitted_at: datetime
    users: int
    rewards: int
    noise_variance: float
    mean: Sequence[MeanCoefficient]
    largest_change: float | None


def list_priors(connection: Reading, commands: Sequence[PriorsCommand]) -> list[Found[PriorVersion, int] | OoMlError]:
    """Return a page of versions for each command, the latest first; a policy that is not pooled has none."""
    found = read_policies(connection, {})
    return [
        _list(connection, one, found[one.policy].features.labels)
        if one.policy in found
        else UnknownPolicyError(f"Unknown policy: {one.policy}")
        for one in commands
    ]


def describe(row: PriorRow, labels: Sequence[str], before: Prior | None) -> PriorVersion:
    """Return a version for reading; `before` is the version before it, if that is known."""
    mean, deviations = row.prior.mean, np.sqrt(np.diag(row.prior.covariance))
    change = None if before is None else float(np.max(np.abs(mean - before.mean) / deviations))
    coefficients = [
        MeanCoefficient(label, float(of_mean), float(deviation))
        for label, of_mean, deviation in zip(labels, mean, deviations, strict=True)
    ]
    numbers = (row.prior.version, row.fitted_at, row.users, row.rewards, row.prior.noise_variance)
    return PriorVersion(*numbers, coefficients, change)


def _list(connection: Reading, command: PriorsCommand, labels: Sequence[str]) -> Found[PriorVersion, int]:
    page = command.page
    # One more row than the page has: the version before its last one.
    rows = policy_priors.list_versions(connection, command.policy, page.limit + 1, page.offset)
    priors = {row.prior.version: row.prior for row in rows} | {0: Prior.initial(len(labels))}
    return by_offset([describe(row, labels, priors.get(row.prior.version - 1)) for row in rows], page)
