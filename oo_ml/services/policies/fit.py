"""The fit of priors: read a sample of users in one snapshot, compute outside of any transaction, insert the version.

Any number of processes may fit at the same time: the first version of a number stays, and the others are dropped. A
fit that fails changes nothing.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from oo_ml.domain.population import Population, Prior, Sample, fit
from oo_ml.errors import (
    DatabaseTimeoutError,
    FitFailedError,
    NoPriorError,
    OoMlError,
    UnavailableError,
    UnknownPolicyError,
)
from oo_ml.execution.outcomes import only, send
from oo_ml.execution.pool import Pool
from oo_ml.services.each import each
from oo_ml.services.policies.compiled import read_policies
from oo_ml.services.policies.priors import PriorVersion, describe
from oo_ml.settings import Settings
from oo_ml.storage import daily_sums, evidence_sample, policies, policy_priors, upkeep
from oo_ml.storage.policy_priors import PriorRow
from oo_ml.storage.postgres.engine import snapshot
from oo_ml.storage.postgres.sessions import Reading, Writing

# A prior is due once the rewards have grown by this share since the last fit, and by at least this number.
_GROWTH: Final = 0.1
_LEAST_GROWTH: Final = 5
# It is due after this time if the rewards have changed at all.
_AGE: Final = timedelta(days=1)
# After an erasure a prior is due, but not sooner than this after the last fit: with one erasure after another, every
# run would add a version.
_PAUSE: Final = timedelta(minutes=10)
# A fit that failed would fail again; it is tried again after this time.
_RETRY: Final = timedelta(hours=1)
# A user whose rewards have faded below this share of a reward tells nothing any more.
_FADED: Final = 2.0**-10


@dataclass(frozen=True, slots=True)
class ReadCommand:
    """Read the evidence for the next version of a policy's prior, as of `now`.

    With `only_if_due` only if the prior is due: another process may have fitted it meanwhile.
    """

    policy: str
    now: datetime
    only_if_due: bool = False


@dataclass(frozen=True, slots=True)
class Material:
    """The evidence for the next version of a prior, and the numbers of its row.

    Attributes:
        labels: of the policy's features.
        population: of the policy, with the prior before.
        before: the row of that prior; None: it is version 0.
        sample: of the users with evidence, not faded; None: there are none.
        rewards, erasures: of the policy now.
    """

    labels: Sequence[str]
    population: Population
    before: PriorRow | None
    sample: Sample | None
    rewards: int
    erasures: int


@dataclass(frozen=True, slots=True)
class Fitted:
    """A new version.

    Attributes:
        version: the row, for reading.
        is_inserted: False: another process inserted this version meanwhile, or it was not to be inserted.
    """

    row: PriorRow
    version: PriorVersion
    is_inserted: bool


@dataclass(frozen=True, slots=True)
class Fits:
    """The versions that a run of upkeep inserted, and the fits that failed."""

    fitted: Sequence[PriorRow]
    problems: Sequence[OoMlError]


class Failure(NamedTuple):
    """A fit that failed."""

    at: datetime
    problem: OoMlError


async def fit_due(
    workers: Pool[Writing], settings: Settings, now: datetime, failures: dict[str, Failure] | None = None
) -> Fits:
    """Delete versions that were replaced OO_ML_PRIOR_RETENTION_DAYS ago, then fit every prior that is due.

    The time of a run that came to its end is stored, as for the other tasks, also if fits failed.

    Args:
        workers: the threads to read and write with.
        settings: of the process.
        now: the time of the fits.
        failures: by policy, of earlier runs; changed in place. A fit that failed is tried again after an hour, and is a
            problem of each run until then.

    Raises:
        UnavailableError: the database is unavailable; the versions so far are inserted.
    """
    failures = {} if failures is None else failures
    await workers.run(delete_replaced, [now - timedelta(days=settings.prior_retention_days)])
    [due] = await workers.run(find_due, [now])
    fitted, problems = [], list[OoMlError]()
    for policy in due:
        if policy in failures and now - failures[policy].at < _RETRY:
            problems.append(failures[policy].problem)
            continue
        try:
            found = await fit_policy(workers, settings, ReadCommand(policy, now, only_if_due=True))
        except DatabaseTimeoutError as error:
            # It may be the size of this policy: the others go on.
            problems.append(error)
        except UnavailableError:
            raise
        except OoMlError as error:
            failures[policy] = Failure(now, error)
            problems.append(error)
        else:
            failures.pop(policy, None)
            if found is not None and found.is_inserted:
                fitted.append(found.row)
    await workers.run(note_run, [now])
    return Fits(fitted, problems)


async def fit_policy(
    workers: Pool[Writing],
    settings: Settings,
    command: ReadCommand,
    *,
    is_dry_run: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Fitted | None:
    """Fit the prior of a policy; None: nothing has changed and no user has evidence, or it is not due and was to be.

    `advance` is told of each of two steps.

    Raises:
        UnknownPolicyError, NoPriorError: there is no such policy, or it is not pooled.
        FitFailedError: the result is not finite, or takes longer than OO_ML_PRIOR_FIT_TIMEOUT. Nothing was changed.
        UnavailableError: the database is unavailable.
    """
    material = only(await workers.run(read_material, [command]))
    advance(1)
    if material is None:
        return None
    before = material.population.prior
    compute = partial(compute_next, material, command.policy, command.now)
    prior = await _in_thread(compute, command.policy, settings.prior_fit_timeout)
    advance(1)
    if prior is None:
        return None
    users = 0 if material.sample is None else len(material.sample.weight)
    row = PriorRow(command.policy, prior, command.now, users, material.rewards, material.erasures)
    is_inserted = False if is_dry_run else only(await workers.run(insert, [row]))
    return Fitted(row, describe(row, material.labels, before), is_inserted)


@each
def list_fitted(connection: Reading, _: None) -> list[str]:
    """Return the pooled policies, by name."""
    return sorted(name for name, policy in read_policies(connection, {}).items() if policy.population is not None)


@each
def find_due(connection: Reading, now: datetime) -> list[str]:
    """Return the policies whose prior is due, by name."""
    latest = policy_priors.read_latest_rows(connection)
    rewards, erasures = daily_sums.count_rewards(connection), policies.read_erasures(connection)
    return sorted(
        name
        for name, policy in read_policies(connection, {}).items()
        if policy.population is not None and _is_due(latest.get(name), rewards.get(name, 0), erasures[name], now)
    )


@each
def read_material(connection: Reading, command: ReadCommand) -> Material | OoMlError | None:
    """Read the evidence for a fit, all of it as of one moment: a user is erased in all of it or in none."""
    snapshot(connection)
    name = command.policy
    policy = read_policies(connection, {}).get(name)
    if policy is None:
        return UnknownPolicyError(f"Unknown policy: {name}")
    if policy.population is None:
        return NoPriorError(f"Policy {name} is not pooled, so it has no prior")
    before = policy_priors.read_latest_rows(connection).get(name)
    rewards = daily_sums.count_rewards(connection).get(name, 0)
    erasures = policies.read_erasures(connection)[name]
    if command.only_if_due and not _is_due(before, rewards, erasures, command.now):
        return None
    least = _FADED * policy.population.weigh(command.now)
    return Material(
        labels=policy.features.labels,
        population=policy.population if before is None else replace(policy.population, prior=before.prior),
        before=before,
        sample=evidence_sample.draw(connection, name, policy.features.dimension, least),
        rewards=rewards,
        erasures=erasures,
    )


@each
def insert(connection: Writing, row: PriorRow) -> bool:
    """Insert a version; return whether no other process had inserted it."""
    return policy_priors.insert(connection, row)


@each
def delete_replaced(connection: Writing, before: datetime) -> int:
    """Delete the versions that were replaced before this time; return their number. The latest one stays."""
    return policy_priors.delete_replaced(connection, before)


@each
def note_run(connection: Writing, now: datetime) -> None:
    """Store the time of a run, unless another process is storing its own."""
    if upkeep.claim(connection, upkeep.PRIORS) is not None:
        upkeep.save(connection, upkeep.PRIORS, None, now)


def compute_next(material: Material, policy: str, now: datetime) -> Prior | None:
    """Return the next version, as of `now`; None if nothing has changed that it could be fitted to.

    After an erasure nothing of the version before is taken over, because it was fitted to the user too. If rewards have
    come, but no user has evidence left, it repeats the numbers of the version before, so that the prior is not due
    until more rewards come. The material is used up.

    Raises:
        FitFailedError: the result is not finite, or not possible.
    """
    before, last = material.population.prior, material.before
    has_forgotten = last is not None and material.erasures != last.erasures
    if material.sample is None:
        numbers = Prior.initial(before.dimension) if has_forgotten else before
        is_new = has_forgotten or material.rewards != (0 if last is None else last.rewards)
        return replace(numbers, version=before.version + 1) if is_new else None
    # A version of no users was fitted to no data of today.
    is_afresh = has_forgotten or (last is not None and not last.users)
    try:
        # Without warnings: the end of the fit tells whether its result is finite.
        with np.errstate(all="ignore"):
            sample = _fade(material.sample, 1 / material.population.weigh(now))
            return fit(sample, before, is_afresh=is_afresh)
    except (ArithmeticError, np.linalg.LinAlgError) as error:
        raise _failure(policy, str(error)) from None


def _failure(policy: str, cause: str) -> FitFailedError:
    return FitFailedError(f"The prior of {policy} could not be fitted, and stays as it is", cause=cause)


def _is_due(last: PriorRow | None, rewards: int, erasures: int, now: datetime) -> bool:
    grown = rewards - (0 if last is None else last.rewards)
    if last is None:
        return grown >= _LEAST_GROWTH
    # A user whom the prior was fitted to has been erased.
    is_outdated = erasures != last.erasures and now - last.fitted_at >= _PAUSE
    is_old = now - last.fitted_at >= _AGE and grown != 0
    return is_outdated or is_old or grown >= max(_LEAST_GROWTH, _GROWTH * last.rewards)


def _fade(sample: Sample, factor: float) -> Sample:
    """Fade sums in place: they are the largest arrays of a fit."""
    for sums in (sample.A, sample.b, sample.weight, sample.squares):
        np.multiply(sums, factor, out=sums)
    return sample


async def _in_thread(compute: Callable[[], Prior | None], policy: str, patience: float) -> Prior | None:
    """Compute in a thread of its own, for which no end of the process waits: a fit may take many seconds."""
    answer: asyncio.Future[Prior | None] = asyncio.get_running_loop().create_future()

    def work() -> None:
        try:
            outcome: object = compute()
        except Exception as error:  # noqa: BLE001 - the caller gets it
            outcome = error
        send([answer], [outcome])

    threading.Thread(target=work, name="fit", daemon=True).start()
    try:
        async with asyncio.timeout(patience):
            return await answer
    except TimeoutError:
        # The thread goes on to its end, to which the caller does not listen any more.
        raise _failure(policy, f"it took longer than {patience:g} seconds") from None
