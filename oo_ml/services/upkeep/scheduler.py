"""Upkeep: periodic tasks, run by `oo-ml upkeep` or by any number of running services.

Partitions of feature_history are made ahead and detached after retention. A service waits only briefly for the lock on
the table; the command waits as long as for a row. If the default partition has many decisions of a month, making its
partition is left to the owner of the tables, because moving the decisions would block all calls.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from oo_ml.errors import DatabaseRefusedError, OoMlError, UnavailableError
from oo_ml.execution.pool import Pool
from oo_ml.execution.retry import Service
from oo_ml.services.upkeep.daily_sums import count_days
from oo_ml.services.upkeep.default_rewards import give_default_rewards
from oo_ml.settings import Settings
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema import partitions
from oo_ml.storage.schema.partitions import Layout, month_of

logger = logging.getLogger(__name__)

# A fraction of the interval. It spreads the runs of replicas that start together.
_JITTER: Final = 0.1
_OWNER: Final = "run `oo-ml db grant-service` for this role, or `oo-ml upkeep` as the owner of the tables"


@dataclass(frozen=True, slots=True)
class Months:
    """Result of `keep_months`.

    Attributes:
        made, detached: names of partitions.
        problems: errors that the next run may solve.
        alarms: messages that need an operator.
    """

    made: list[str]
    detached: list[str]
    problems: list[OoMlError]
    alarms: list[str]


async def keep_months(
    workers: Pool[Writing],
    settings: Settings,
    now: datetime,
    *,
    movable: int = partitions.MOVABLE,
    is_patient: bool = False,
) -> Months:
    """Make the missing monthly partitions and detach those after retention, each in a transaction of its own.

    Args:
        workers: run the transactions, with their time limits.
        settings: the number of months to keep.
        now: the current time.
        movable: decisions that a new partition may take out of the default partition, at most.
        is_patient: whether to wait for the table as long as for a row, instead of briefly.

    Raises:
        UnavailableError: the database is unavailable, so the partitions can't be read.
    """
    [(layout, _)] = await workers.run(_look, [now])
    missing = partitions.missing(layout.months, now)
    crowded = await _find_crowded(workers, layout, missing, movable)
    attempt = partial(_attempt, workers, layout)
    made, problems = await attempt(
        "making months of feature_history",
        partial(_make, is_patient=is_patient),
        [month for month in missing if month not in crowded],
    )
    detached, others = await attempt(
        "detaching months of feature_history",
        partial(_detach, is_patient=is_patient, now=now),
        _find_due(layout, settings, now),
    )
    [(layout, stray)] = await workers.run(_look, [now])
    missing = partitions.missing(layout.months, now, ahead=2)
    return Months(made, detached, problems + others, list(_describe_alarms(missing, stray, crowded)))


@asynccontextmanager
async def run_in_background(settings: Settings, writers: Pool[Writing], long: Pool[Writing]) -> AsyncIterator[None]:
    """Run upkeep every OO_ML_UPKEEP_INTERVAL until the block ends. Workers finish the steps that have begun.

    The task that locks whole tables runs on `writers`, with the time limits of calls; the others run on `long`.
    """
    # Separate asyncio tasks, so that a backlog of default rewards does not delay a partition.
    repeated = {
        "months": partial(_run_months, writers, settings),
        "default rewards": partial(_run_defaults, long, settings),
        "days": partial(_run_days, long),
    }
    tasks = [
        asyncio.create_task(_repeat(settings.upkeep_interval, name, task))
        for name, task in repeated.items()
        if settings.upkeep_interval
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(interval: float, name: str, task: Callable[[], Awaitable[Sequence[OoMlError]]]) -> None:
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
        # Log a problem once, and not in every run while it lasts.
        by_message = {problem.message: problem for problem in problems}
        for message in by_message.keys() - logged:
            logger.log(_choose_level(by_message[message]), "upkeep (%s) will be retried: %s", name, message)
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


def _choose_level(problem: OoMlError) -> int:
    is_temporary = isinstance(problem, UnavailableError) and not isinstance(problem, DatabaseRefusedError)
    return logging.WARNING if is_temporary else logging.ERROR


def _find_due(layout: Layout, settings: Settings, now: datetime) -> list[datetime]:
    """Return, in a list, the time before which months must be detached; an empty list if there are no such months."""
    if settings.history_retention is None:
        return []
    before = month_of(now, -settings.history_retention)
    return [before] if any(month < before for month in layout.months) else []


def _describe_alarms(missing: Sequence[datetime], stray: datetime | None, crowded: Sequence[datetime]) -> Iterator[str]:
    if crowded:
        yield (
            f"feature_history gets no partition for {_join(crowded)}, because moving its decisions out of"
            " feature_history_default would block calls: run `oo-ml db upgrade` as the owner at a quiet time"
        )
    if others := [month for month in missing if month not in crowded]:
        yield f"feature_history has no partition for {_join(others)}: {_OWNER}"
    if stray and stray not in crowded:
        yield (
            f"decisions of {stray:%Y-%m} lie in feature_history_default: as the owner of feature_history run"
            f" SELECT oo_ml.create_feature_history_months('{stray:%Y-%m-%d}Z', 1)"
        )


def _join(months: Sequence[datetime]) -> str:
    return " and ".join(f"{month:%Y-%m}" for month in months)


async def _find_crowded(
    workers: Pool[Writing], layout: Layout, months: Sequence[datetime], movable: int
) -> list[datetime]:
    """Return the months that can't be made without blocking calls; an empty list if this role can make no month."""
    if not (layout.is_changeable and months):
        return []
    crowded = await workers.run(partial(_are_crowded, movable=movable), months)
    return [month for month, is_crowded in zip(months, crowded, strict=True) if is_crowded]


async def _attempt(
    workers: Pool[Writing],
    layout: Layout,
    what: str,
    service: Service[datetime, list[str]],
    moments: Sequence[datetime],
) -> tuple[list[str], list[OoMlError]]:
    """Run `service` on each moment in its own transaction; return the partitions, and the error if one failed."""
    names: list[str] = []
    try:
        for moment in moments:
            if not layout.is_changeable:
                # Not tried, because PostgreSQL would log the refusal in every run.
                raise DatabaseRefusedError(f"this role lacks the rights; {_OWNER}")
            [tables] = await workers.run(service, [moment])
            names += tables
    except OoMlError as error:
        return names, [type(error)(f"{what}: {error.message}")]
    return names, []


def _look(connection: Reading, moments: Sequence[datetime]) -> list[tuple[Layout, datetime | None]]:
    layout = partitions.layout(connection)
    return [(layout, partitions.find_stray(connection, layout.months, now)) for now in moments]


def _are_crowded(connection: Reading, months: Sequence[datetime], *, movable: int) -> list[bool]:
    return [partitions.is_crowded(connection, month, movable) for month in months]


def _make(connection: Writing, moments: Sequence[datetime], *, is_patient: bool) -> list[list[str]]:
    if not is_patient:
        partitions.shorten_lock_timeout(connection)
    return [partitions.make(connection, month) for month in moments]


def _detach(connection: Writing, moments: Sequence[datetime], *, is_patient: bool, now: datetime) -> list[list[str]]:
    if not is_patient:
        partitions.shorten_lock_timeout(connection)
    return [partitions.detach(connection, before, now) for before in moments]
