"""Upkeep in a running service: each task is repeated at an interval, by any number of services at the same time."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final

from oo_ml.errors import DatabaseRefusedError, OoMlError, UnavailableError
from oo_ml.execution.pool import Pool
from oo_ml.services.policies.fit import Failure, fit_due
from oo_ml.services.upkeep.daily_sums import count_days
from oo_ml.services.upkeep.default_rewards import give_default_rewards
from oo_ml.services.upkeep.partitions import keep_months
from oo_ml.settings import Settings
from oo_ml.storage.postgres.sessions import Writing

logger = logging.getLogger(__name__)

# A fraction of the interval. It spreads the runs of replicas that start together.
_JITTER: Final = 0.1


@asynccontextmanager
async def run_in_background(
    settings: Settings,
    writers: Pool[Writing],
    long: Pool[Writing],
    fits: Pool[Writing],
    *,
    failed: Callable[[], None],
) -> AsyncIterator[None]:
    """Run upkeep every OO_ML_UPKEEP_INTERVAL until the block ends. Workers finish the steps that have begun.

    The task that locks whole tables runs on `writers`, with the time limits of calls. Priors are fitted on `fits`; the
    others run on `long`.
    `failed` is called after each run of a task that has a problem.
    """
    # Separate asyncio tasks, so that a backlog of default rewards does not delay a partition.
    repeated = {
        "months": partial(_run_months, writers, settings),
        "default rewards": partial(_run_defaults, long, settings),
        "days": partial(_run_days, long),
        "priors": partial(_run_priors, fits, settings, {}),
    }
    tasks = [
        asyncio.create_task(_repeat(settings.upkeep_interval, name, task, failed))
        for name, task in repeated.items()
        if settings.upkeep_interval
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(
    interval: float, name: str, task: Callable[[], Awaitable[Sequence[OoMlError]]], failed: Callable[[], None]
) -> None:
    logged: set[str] = set()
    await asyncio.sleep(random.uniform(0, interval * _JITTER))  # noqa: S311
    while True:
        problems: Sequence[OoMlError] = ()
        try:
            problems = await task()
        except OoMlError as error:
            problems = [error]
        except Exception:
            logger.exception("upkeep (%s) failed", name)
            failed()
        if problems:
            failed()
        # Log a problem once, and not in every run while it lasts.
        by_message = {problem.message: problem for problem in problems}
        for message in by_message.keys() - logged:
            problem = by_message[message]
            logger.log(_choose_level(problem), "upkeep (%s) will be retried: %s", name, problem.explanation)
        logged = set(by_message)
        await asyncio.sleep(interval * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311


async def _run_months(writers: Pool[Writing], settings: Settings) -> Sequence[OoMlError]:
    months = await keep_months(writers, settings, datetime.now(UTC))
    if months.made:
        logger.info("made partitions %s", ", ".join(months.made))
    if months.detached:
        logger.info("detached partitions %s", ", ".join(months.detached))
    for alarm in months.alarms:
        logger.error("%s", alarm)
    return months.problems


async def _run_defaults(long: Pool[Writing], settings: Settings) -> Sequence[OoMlError]:
    defaults = await give_default_rewards(long, settings, datetime.now(UTC))
    if defaults.given:
        logger.info("gave %d decisions the default reward", defaults.given)
    return ()


async def _run_days(long: Pool[Writing]) -> Sequence[OoMlError]:
    await count_days(long, datetime.now(UTC))
    return ()


async def _run_priors(fits: Pool[Writing], settings: Settings, failures: dict[str, Failure]) -> Sequence[OoMlError]:
    found = await fit_due(fits, settings, datetime.now(UTC), failures)
    for row in found.fitted:
        logger.info("fitted version %d of the prior of %s to %d users", row.prior.version, row.policy, row.users)
    return found.problems


def _choose_level(problem: OoMlError) -> int:
    is_temporary = isinstance(problem, UnavailableError) and not isinstance(problem, DatabaseRefusedError)
    return logging.WARNING if is_temporary else logging.ERROR
