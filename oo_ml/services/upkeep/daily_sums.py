"""Counting: decisions, rewards and calls of the model are added to the daily tables, each once, a step a transaction.

A row is counted when none before it can come any more. Two looks tell: positions given out by the first are settled as
soon as the second finds every transaction ended that was under way after it. Nothing is locked but the task itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from oo_ml.execution.pool import Pool
from oo_ml.storage import daily_sums, upkeep
from oo_ml.storage.daily_sums import Counted, Range

# Of each source: about a second's work, which an erasure has to wait for.
LIMIT: Final = 20_000


@dataclass(frozen=True, slots=True)
class CountCommand:
    """Take a step: look at `limit` positions of each source at most."""

    now: datetime
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class Days:
    """What became of it: how many positions were passed, and whether somebody else is at it, who goes on."""

    passed: int = 0
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What a step has come to: how many positions it passed, and whether there are more to pass at once."""

    passed: int = 0
    has_more: bool = False
    is_busy: bool = False


async def count_days(workers: Pool, now: datetime, *, limit: int = LIMIT) -> Days:
    """Count whatever can be counted by now, step by step.

    Args:
        workers: who take the steps.
        now: the moment.
        limit: positions that one step looks at, at most.

    Raises:
        UnavailableError: the database can't do it now; the steps so far are done.
    """
    passed = 0
    # At least twice: the first may find out what the second can count.
    looks = 2
    while looks > 0:
        [step] = await workers.run(count, [CountCommand(now, limit)])
        passed += step.passed
        if step.is_busy:
            return Days(passed, is_busy=True)
        looks = max(looks - 1, int(step.has_more))
    return Days(passed)


def count(connection: Connection, commands: Sequence[CountCommand]) -> list[Step]:
    """Take one step a command."""
    return [_step(connection, command) for command in commands]


def _step(connection: Connection, command: CountCommand) -> Step:
    claim = upkeep.claim(connection, upkeep.DAYS)
    if claim is None:
        return Step(is_busy=True)
    before = daily_sums.counted(connection)
    # In this order: whoever had a position by then has a number below what the next statement finds.
    last = daily_sums.last_positions(connection)
    first_open, next_xid = daily_sums.transactions(connection)
    settled = {source: _settle(one, last[source], first_open, next_xid) for source, one in before.items()}
    ranges = {
        source: Range(one.counted_until, min(one.settled_until, one.counted_until + command.limit))
        for source, one in settled.items()
    }
    passed = sum(one.until - one.after for one in ranges.values())
    if passed:
        daily_sums.add(connection, ranges)
    for source, one in settled.items():
        daily_sums.save(connection, source, replace(one, counted_until=ranges[source].until))
    upkeep.save(connection, upkeep.DAYS, claim.done_until, command.now)
    return Step(passed, has_more=any(ranges[source].until < one.settled_until for source, one in settled.items()))


def _settle(before: Counted, last: int, first_open: int, next_xid: int) -> Counted:
    """Return `before` with what is settled by now, and, once it is, with what is to be settled next."""
    if before.next_until is not None and before.next_xid is not None:
        if before.next_xid > next_xid:
            # Transactions that this server has never had: the database comes from another one, where they have ended.
            return replace(before, next_until=last, next_xid=next_xid)
        if before.next_xid > first_open:
            return before
        before = replace(before, settled_until=max(before.settled_until, before.next_until))
    return replace(before, next_until=last, next_xid=next_xid)
