"""Upkeep: what has to be done from time to time, by `oo-ml upkeep` or by a service at work, however many there are.

Months of the history are made ahead and detached when they are past retention; decisions that nobody reacted to get
the default reward. Nothing here makes a call wait for longer than another call would.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from oo_ml.errors import DatabaseRefusedError, OoMlError, UnavailableError
from oo_ml.services.default_rewards import DefaultsCommand, give_defaults
from oo_ml.services.transactions import Service
from oo_ml.services.workers import Workers
from oo_ml.settings import Settings
from oo_ml.storage import partitions
from oo_ml.storage.partitions import Layout, month_of

logger = logging.getLogger(__name__)

# So that replicas that were started together don't march in step.
_JITTER: Final = 0.1
_OWNER: Final = "run `oo-ml upkeep` or `oo-ml db upgrade` as its owner"


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


@dataclass(frozen=True, slots=True)
class Defaults:
    """How many decisions got the default reward, and whether somebody else is at it, who goes on."""

    given: int = 0
    is_busy: bool = False


async def keep_months(workers: Workers, settings: Settings, now: datetime) -> Months:
    """Make the months that are missing and detach those past retention, a transaction each.

    Raises:
        UnavailableError: the database can't say what there is.
    """
    [(layout, _)] = await workers.run(_look, [now])
    attempt = partial(_attempt, workers, layout)
    made, problems = await attempt("making months of feature_history", _make, partitions.missing(layout.months, now))
    detached, others = await attempt("detaching months of feature_history", _detach, _due(layout, settings, now))
    [(layout, stray)] = await workers.run(_look, [now])
    return Months(
        made, detached, problems + others, list(_alarms(partitions.missing(layout.months, now, ahead=2), stray))
    )


async def give_default_rewards(workers: Workers, settings: Settings, now: datetime) -> Defaults:
    """Give the default reward to every decision whose wait is over, if there is to be one, step by step.

    Raises:
        UnavailableError: the database can't do it now; the steps so far are done.
    """
    if settings.reward_wait is None:
        return Defaults()
    command = DefaultsCommand(now, timedelta(seconds=settings.reward_wait), settings.default_reward)
    given = 0
    while True:
        [step] = await workers.run(give_defaults, [command])
        given += step.given
        if step.after is None:
            return Defaults(given, step.is_busy)
        command = replace(command, after=step.after)


@asynccontextmanager
async def in_background(settings: Settings, writers: Workers, long: Workers) -> AsyncIterator[None]:
    """Run upkeep every OO_ML_UPKEEP_INTERVAL until the block ends; a step that has begun is finished by its worker.

    Whatever takes locks on whole tables goes to `writers`, whose limits are the calls' own.
    """
    task = asyncio.create_task(_repeat(settings, writers, long)) if settings.upkeep_interval else None
    try:
        yield
    finally:
        if task:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _repeat(settings: Settings, writers: Workers, long: Workers) -> None:
    said: set[str] = set()
    await asyncio.sleep(random.uniform(0, settings.upkeep_interval * _JITTER))  # noqa: S311
    while True:
        problems: list[OoMlError] = []
        for task in (partial(_months, writers), partial(_defaults, long)):
            try:
                problems += await task(settings)
            except OoMlError as error:
                problems.append(error)
            except Exception:
                logger.exception("upkeep failed")
        # By what they say: once, and not again each minute for as long as it lasts.
        by_message = {problem.message: problem for problem in problems}
        for message in by_message.keys() - said:
            logger.log(_level(by_message[message]), "upkeep, which will be tried again: %s", message)
        said = set(by_message)
        await asyncio.sleep(settings.upkeep_interval * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311


async def _months(writers: Workers, settings: Settings) -> Sequence[OoMlError]:
    months = await keep_months(writers, settings, datetime.now(UTC))
    if months.made:
        logger.info("made partitions %s", ", ".join(months.made))
    if months.detached:
        logger.info("detached partitions %s", ", ".join(months.detached))
    for alarm in months.alarms:
        logger.error("%s", alarm)
    return months.problems


async def _defaults(long: Workers, settings: Settings) -> Sequence[OoMlError]:
    defaults = await give_default_rewards(long, settings, datetime.now(UTC))
    if defaults.given:
        logger.info("gave %d decisions the default reward", defaults.given)
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


def _alarms(missing: Sequence[datetime], stray: datetime | None) -> Iterator[str]:
    if missing:
        yield f"feature_history has no partition for {' and '.join(f'{month:%Y-%m}' for month in missing)}: {_OWNER}"
    if stray:
        yield (
            f"decisions of {stray:%Y-%m} lie in feature_history_default: as the owner of feature_history run"
            f" SELECT create_feature_history_months('{stray:%Y-%m-%d}Z', 1)"
        )


async def _attempt(
    workers: Workers,
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


def _make(connection: Connection, moments: Sequence[datetime]) -> list[list[str]]:
    partitions.briefly(connection)
    return [partitions.make(connection, month) for month in moments]


def _detach(connection: Connection, moments: Sequence[datetime]) -> list[list[str]]:
    partitions.briefly(connection)
    return [partitions.detach(connection, before) for before in moments]
