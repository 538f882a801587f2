"""Upkeep of the partitions of feature_history: one for each month, made ahead and detached after retention.

The service waits only briefly for the lock on the table, the command as long as for a row. A month with many decisions
in the default partition is left to the owner of the tables, because moving them would block all calls.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Final

from oo_ml.errors import DatabaseRefusedError, OoMlError
from oo_ml.execution.pool import Pool
from oo_ml.execution.retry import Service
from oo_ml.services.each import each
from oo_ml.settings import Settings
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.schema import partitions
from oo_ml.storage.schema.partitions import Layout, month_of

_OWNER: Final = "run `oo-ml db grant-service` for this role, or `oo-ml upkeep` as the owner of the tables"


class Alarm(StrEnum):
    """State of the months that needs an operator.

    CROWDED: the default partition has too many decisions to make a month. MISSING: this month or the next has no
    partition. STRAY: decisions of a month that has come lie in the default partition.
    """

    CROWDED = "crowded"
    MISSING = "missing"
    STRAY = "stray"


@dataclass(frozen=True, slots=True)
class MonthsAhead:
    """Months after the current one that have a partition, and the alarms of this moment."""

    count: int
    alarms: Collection[Alarm]


@dataclass(frozen=True, slots=True)
class Months:
    """Partitions made and detached, problems that the next run may not meet, and alarms that need an operator."""

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

    A new partition may take at most `movable` decisions out of the default partition. With `is_patient` each
    transaction waits for the table as long as for a row, instead of briefly.

    Raises:
        UnavailableError: the partitions can't be read now.
    """
    [(layout, _)] = await workers.run(_look, [now])
    missing = partitions.find_missing(layout.months, now)
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
    return Months(made, detached, problems + others, list(_find_alarms(layout, stray, crowded, now).values()))


@each
def read_months_ahead(connection: Reading, now: datetime) -> MonthsAhead:
    """Return the months ahead and the alarms, as upkeep would see them."""
    layout, stray = _read_layout(connection, now)
    missing = partitions.find_missing(layout.months, now) if layout.is_changeable else []
    crowded = [month for month in missing if partitions.is_crowded(connection, month)]
    ahead = [month for month in layout.months if month > month_of(now)]
    return MonthsAhead(len(ahead), _find_alarms(layout, stray, crowded, now).keys())


def _find_due(layout: Layout, settings: Settings, now: datetime) -> list[datetime]:
    """Return [the time before which retention detaches months], or [] if no month is that old."""
    if settings.history_retention is None:
        return []
    before = month_of(now, -settings.history_retention)
    return [before] if any(month < before for month in layout.months) else []


def _find_alarms(
    layout: Layout, stray: datetime | None, crowded: Sequence[datetime], now: datetime
) -> dict[Alarm, str]:
    """Return the alarms, each with a sentence that names the command which helps."""
    found = {}
    missing = partitions.find_missing(layout.months, now, ahead=2)
    if crowded:
        found[Alarm.CROWDED] = (
            f"feature_history gets no partition for {_join(crowded)}, because moving its decisions out of"
            " feature_history_default would block calls: run `oo-ml db upgrade` as the owner at a quiet time"
        )
    if others := [month for month in missing if month not in crowded]:
        found[Alarm.MISSING] = f"feature_history has no partition for {_join(others)}: {_OWNER}"
    if stray and stray not in crowded:
        found[Alarm.STRAY] = (
            f"decisions of {stray:%Y-%m} lie in feature_history_default: as the owner of feature_history run"
            f" SELECT oo_ml.create_feature_history_months('{stray:%Y-%m-%d}Z', 1)"
        )
    return found


def _join(months: Sequence[datetime]) -> str:
    return " and ".join(f"{month:%Y-%m}" for month in months)


async def _find_crowded(
    workers: Pool[Writing], layout: Layout, months: Sequence[datetime], movable: int
) -> list[datetime]:
    """Return the months that can't be made without blocking calls; an empty list if this role can make none."""
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
        return names, [type(error)(f"{what}: {error.message}", cause=error.cause)]
    return names, []


def _read_layout(connection: Reading, now: datetime) -> tuple[Layout, datetime | None]:
    layout = partitions.read_layout(connection)
    return layout, partitions.find_stray(connection, layout.months, now)


_look = each(_read_layout)


_are_crowded = each(partitions.is_crowded)


@each
def _make(connection: Writing, month: datetime, *, is_patient: bool) -> list[str]:
    if not is_patient:
        partitions.shorten_lock_timeout(connection)
    return partitions.make(connection, month)


@each
def _detach(connection: Writing, before: datetime, *, is_patient: bool, now: datetime) -> list[str]:
    if not is_patient:
        partitions.shorten_lock_timeout(connection)
    return partitions.detach(connection, before, now)
