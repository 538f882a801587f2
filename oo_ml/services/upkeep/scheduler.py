"""Upkeep: what has to be done from time to time, by `oo-ml upkeep` or by a service at work, however many there are.

Months of the history are made ahead and detached past retention: a table is hardly waited for (by the command, as long
as for a row), and kept for one statement; a month that too many decisions wait for is left to its owner. Decisions that
nobody reacted to get the default reward: a step of that keeps waiting those whom it is for, and nobody else.
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

from sqlalchemy import Connection

from oo_ml.errors import DatabaseRefusedError, OoMlError, UnavailableError
from oo_ml.execution.pool import Pool
from oo_ml.execution.retry import Service
from oo_ml.services.upkeep.daily_sums import count_days
from oo_ml.services.upkeep.default_rewards import give_default_rewards
from oo_ml.settings import Settings
from oo_ml.storage.schema import partitions
from oo_ml.storage.schema.partitions import Layout, month_of

logger = logging.getLogger(__name__)

# So that replicas that were started together don't march in step.
_JITTER: Final = 0.1
_OWNER: Final = "run `oo-ml db grant-service` for this role, or `oo-ml upkeep` as the owner of the tables"


@dataclass(frozen=True, slots=True)
class Months:
    """What became of the months of the history.

    Attributes:
        made, detached: names of tables.
        problems: what could not be done now, and may be later.
        alarms: what somebody has to see to.
    """

    made: list[str]
    detached: list[str]
    problems: list[OoMlError]
    alarms: list[str]


async def keep_months(
    workers: Pool,
    settings: Settings,
    now: datetime,
    *,
    movable: int = partitions.MOVABLE,
    is_patient: bool = False,
) -> Months:
    """Make the months that are missing and detach those past retention, a transaction each.

    Args:
        workers: whose limits the transactions have.
        settings: how many months are kept.
        now: the moment.
        movable: decisions that a month may take out of the default partition.
        is_patient: whether a table is waited for as long as the workers wait for a row, rather than hardly at all.

    Raises:
        UnavailableError: the database can't say what there is.
    """
    [(layout, _)] = await workers.run(_look, [now])
    missing = partitions.missing(layout.months, now)
    crowded = await _crowded(workers, layout, missing, movable)
    attempt = partial(_attempt, workers, layout)
    made, problems = await attempt(
        "making months of feature_history",
        partial(_make, is_patient=is_patient),
        [month for month in missing if month not in crowded],
    )
    detached, others = await attempt(
        "detaching months of feature_history",
        partial(_detach, is_patient=is_patient, now=now),
        _due(layout, settings, now),
    )
    [(layout, stray)] = await workers.run(_look, [now])
    missing = partitions.missing(layout.months, now, ahead=2)
    return Months(made, detached, problems + others, list(_alarms(missing, stray, crowded)))


@asynccontextmanager
async def in_background(settings: Settings, writers: Pool, long: Pool) -> AsyncIterator[None]:
    """Run upkeep every OO_ML_UPKEEP_INTERVAL until the block ends; a step that has begun is finished by its worker.

    Whatever takes locks on whole tables goes to `writers`, whose limits are the calls' own.
    """
    # Each at its own pace: a long backlog of defaults is no reason to make a month late.
    repeated = {
        "months": partial(_months, writers, settings),
        "default rewards": partial(_defaults, long, settings),
        "days": partial(_days, long),
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
    said: set[str] = set()
    await asyncio.sleep(random.uniform(0, interval * _JITTER))  # noqa: S311
    while True:
        problems: Sequence[OoMlError] = ()
        try:
            problems = await task()
        except OoMlError as error:
            problems = [error]
        except Exception:
            logger.exception("upkeep (%s) failed", name)
        # By what they say: once, and not again each minute for as long as it lasts.
        by_message = {problem.message: problem for problem in problems}
        for message in by_message.keys() - said:
            logger.log(_level(by_message[message]), "upkeep (%s), which will be tried again: %s", name, message)
        said = set(by_message)
        await asyncio.sleep(interval * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311


async def _months(writers: Pool, settings: Settings) -> Sequence[OoMlError]:
    months = await keep_months(writers, settings, datetime.now(UTC))
    if months.made:
        logger.info("made partitions %s", ", ".join(months.made))
    if months.detached:
        logger.info("detached partitions %s", ", ".join(months.detached))
    for alarm in months.alarms:
        logger.error("%s", alarm)
    return months.problems


async def _defaults(long: Pool, settings: Settings) -> Sequence[OoMlError]:
    defaults = await give_default_rewards(long, settings, datetime.now(UTC))
    if defaults.given:
        logger.info("gave %d decisions the default reward", defaults.given)
    return ()


async def _days(long: Pool) -> Sequence[OoMlError]:
    await count_days(long, datetime.now(UTC))
    return ()


def _level(problem: OoMlError) -> int:
    passes = isinstance(problem, UnavailableError) and not isinstance(problem, DatabaseRefusedError)
    return logging.WARNING if passes else logging.ERROR


def _due(layout: Layout, settings: Settings, now: datetime) -> list[datetime]:
    """Return the moment before which months are to go, if there are any."""
    if settings.history_retention is None:
        return []
    before = month_of(now, -settings.history_retention)
    return [before] if any(month < before for month in layout.months) else []


def _alarms(missing: Sequence[datetime], stray: datetime | None, crowded: Sequence[datetime]) -> Iterator[str]:
    if crowded:
        yield (
            f"feature_history gets no partition for {_named(crowded)} while calls go on, too many decisions lie in"
            " feature_history_default: run `oo-ml db upgrade` as its owner at a quiet hour"
        )
    if others := [month for month in missing if month not in crowded]:
        yield f"feature_history has no partition for {_named(others)}: {_OWNER}"
    if stray and stray not in crowded:
        yield (
            f"decisions of {stray:%Y-%m} lie in feature_history_default: as the owner of feature_history run"
            f" SELECT oo_ml.create_feature_history_months('{stray:%Y-%m-%d}Z', 1)"
        )


def _named(months: Sequence[datetime]) -> str:
    return " and ".join(f"{month:%Y-%m}" for month in months)


async def _crowded(workers: Pool, layout: Layout, months: Sequence[datetime], movable: int) -> list[datetime]:
    """Return the months that can't be made without keeping calls waiting; none where none can be made at all."""
    if not (layout.is_changeable and months):
        return []
    crowded = await workers.run(partial(_are_crowded, movable=movable), months)
    return [month for month, is_crowded in zip(months, crowded, strict=True) if is_crowded]


async def _attempt(
    workers: Pool,
    layout: Layout,
    what: str,
    service: Service[datetime, list[str]],
    moments: Sequence[datetime],
) -> tuple[list[str], list[OoMlError]]:
    """Run `service` on each moment, a transaction each; return the names of the tables, and why it ended early."""
    names: list[str] = []
    try:
        for moment in moments:
            if not layout.is_changeable:
                # Not tried: PostgreSQL's own log would tell of it each minute.
                raise DatabaseRefusedError(f"this role may not do it; {_OWNER}")
            [tables] = await workers.run(service, [moment])
            names += tables
    except OoMlError as error:
        return names, [type(error)(f"{what}: {error.message}")]
    return names, []


def _look(connection: Connection, moments: Sequence[datetime]) -> list[tuple[Layout, datetime | None]]:
    layout = partitions.layout(connection)
    return [(layout, partitions.stray(connection, layout.months, now)) for now in moments]


def _are_crowded(connection: Connection, months: Sequence[datetime], *, movable: int) -> list[bool]:
    return [partitions.is_crowded(connection, month, movable) for month in months]


def _make(connection: Connection, moments: Sequence[datetime], *, is_patient: bool) -> list[list[str]]:
    if not is_patient:
        partitions.briefly(connection)
    return [partitions.make(connection, month) for month in moments]


def _detach(connection: Connection, moments: Sequence[datetime], *, is_patient: bool, now: datetime) -> list[list[str]]:
    if not is_patient:
        partitions.briefly(connection)
    return [partitions.detach(connection, before, now) for before in moments]
