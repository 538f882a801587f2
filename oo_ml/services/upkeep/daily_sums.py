"""Upkeep of the daily tables: adds each decision, reward and call of the model once, in steps of one transaction each.

A row is counted once no transaction can still commit a lower position (ADR 11). A step notes the last position and the
next transaction id. When a later step finds that all transactions below that id have ended, the positions up to the
noted one are settled. A step locks only the task's own row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from oo_ml.execution.pool import Pool
from oo_ml.storage import daily_sums, upkeep
from oo_ml.storage.daily_sums import Progress, Range
from oo_ml.storage.postgres.sessions import Writing

# Positions of each source in a step: about one second. An erasure waits for the step.
LIMIT: Final = 20_000


@dataclass(frozen=True, slots=True)
class CountCommand:
    """Count at most `limit` positions of each source."""

    now: datetime
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class Days:
    """The result of counting: the number of positions, and whether it stopped because another process is counting."""

    passed: int = 0
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """The result of a step: the number of positions, and whether more are settled or another process is counting."""

    passed: int = 0
    has_more: bool = False
    is_busy: bool = False


async def count_days(workers: Pool[Writing], now: datetime, *, limit: int = LIMIT) -> Days:
    """Count everything that can be counted now, in steps.

    Args:
        workers: run the steps.
        now: the moment.
        limit: the most positions of a source that one step counts.

    Raises:
        UnavailableError: the database can't do it now; the steps so far are committed.
    """
    passed = 0
    # At least two steps, because the second can count what the first has noted.
    looks = 2
    while looks > 0:
        [step] = await workers.run(count, [CountCommand(now, limit)])
        passed += step.passed
        if step.is_busy:
            return Days(passed, is_busy=True)
        looks = max(looks - 1, int(step.has_more))
    return Days(passed)


def count(connection: Writing, commands: Sequence[CountCommand]) -> list[Step]:
    """Take one step for each command."""
    return [_take_step(connection, command) for command in commands]


def _take_step(connection: Writing, command: CountCommand) -> Step:
    claim = upkeep.claim(connection, upkeep.DAYS)
    if claim is None:
        return Step(is_busy=True)
    before = daily_sums.read_progress(connection)
    # In this order: the transactions of these positions then have ids below next_xid.
    last = daily_sums.read_last_positions(connection)
    oldest, next_xid = daily_sums.read_transactions(connection)
    settled = {source: _settle(one, last[source], oldest, next_xid) for source, one in before.items()}
    ranges = {
        source: Range(one.counted_until, min(one.settled_until, one.counted_until + command.limit))
        for source, one in settled.items()
    }
    passed = sum(one.until - one.after for one in ranges.values())
    if passed:
        daily_sums.add(connection, ranges)
    for source, one in settled.items():
        daily_sums.save_progress(connection, source, replace(one, counted_until=ranges[source].until))
    upkeep.save(connection, upkeep.DAYS, claim.done_until, command.now)
    return Step(passed, has_more=any(ranges[source].until < one.settled_until for source, one in settled.items()))


def _settle(before: Progress, last: int, oldest: int, next_xid: int) -> Progress:
    """Return `before` with the noted position settled and the next one noted, if its transactions have ended."""
    if before.next_until is not None and before.next_xid is not None:
        if before.next_xid > next_xid:
            # An id that this server has not assigned yet: a restored database. These transactions ended elsewhere.
            return replace(before, next_until=last, next_xid=next_xid)
        if before.next_xid > oldest:
            return before
        before = replace(before, settled_until=max(before.settled_until, before.next_until))
    return replace(before, next_until=last, next_xid=next_xid)
