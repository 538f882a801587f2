"""Upkeep of the daily tables: counts each decision, reward and call of the model once, in steps of one transaction.

A row is counted as soon as no transaction can commit a lower position (ADR 11). A step stores the last position and
the next transaction id. Once all transactions below that id have ended, positions up to the stored one are settled.
A step locks only the task's own row.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from oo_ml.execution.pool import Pool
from oo_ml.services.each import each
from oo_ml.storage import daily_sums, upkeep
from oo_ml.storage.daily_sums import Progress, Range
from oo_ml.storage.postgres.sessions import Writing

# Positions of each source in a step. A step takes about one second, and an erasure waits for it.
LIMIT: Final = 20_000


@dataclass(frozen=True, slots=True)
class CountCommand:
    """Count at most `limit` positions of each source."""

    now: datetime
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class Days:
    """Result of counting: the number of positions, and whether it stopped because another process is counting."""

    passed: int = 0
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """Result of a step: the number of positions, and whether more are settled or another process is counting."""

    passed: int = 0
    has_more: bool = False
    is_busy: bool = False


async def count_days(workers: Pool[Writing], now: datetime, *, limit: int = LIMIT) -> Days:
    """Count all settled positions, in steps of at most `limit` positions of each source.

    Before that it adds new rows to the indexes on position, so that counting and reports read new rows only.

    Raises:
        UnavailableError: the database is unavailable; the steps so far are committed.
    """
    # A transaction of its own, because it locks tables against VACUUM until it ends.
    await workers.run(_summarize, [None])
    passed = 0
    # At least two steps: the second can count the positions that the first has stored.
    looks = 2
    while looks > 0:
        [step] = await workers.run(count, [CountCommand(now, limit)])
        passed += step.passed
        if step.is_busy:
            return Days(passed, is_busy=True)
        looks = max(looks - 1, int(step.has_more))
    return Days(passed)


@each
def _summarize(connection: Writing, _: None) -> None:
    daily_sums.summarize_positions(connection)


@each
def count(connection: Writing, command: CountCommand) -> Step:
    """Take one step."""
    claim = upkeep.claim(connection, upkeep.DAYS)
    if claim is None:
        return Step(is_busy=True)
    before = daily_sums.read_progress(connection)
    # Positions first: then the transactions that took these positions have ids below next_xid.
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
    """If the transactions of the stored position have ended, settle it and store the next one."""
    if before.next_until is not None and before.next_xid is not None:
        if before.next_xid > next_xid:
            # This server has not assigned that id: the database was restored, and those transactions ended elsewhere.
            return replace(before, next_until=last, next_xid=next_xid)
        if before.next_xid > oldest:
            return before
        before = replace(before, settled_until=max(before.settled_until, before.next_until))
    return replace(before, next_until=last, next_xid=next_xid)
