"""Default rewards: a decision that nobody reacted to in time counts as if somebody had, until somebody does.

One step is one short transaction over a stretch of time. How far all of them together have come is written down, so
that the next run goes on from there, in whichever process. One decision that can't be given it keeps no other from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection

from oo_ml.domain.learning import Kind
from oo_ml.services.book import Book
from oo_ml.storage import upkeep
from oo_ml.storage.history import DecisionKey
from oo_ml.storage.upkeep import DEFAULT_REWARDS, Position

# A decision is seen a little after its time, and clocks differ: what has just been looked at is looked at again.
_MARGIN: Final = timedelta(hours=1)
# What one step looks at: enough for the whole of a run where the last one was not long ago.
_WINDOW: Final = _MARGIN * 1.5
# Decisions, and with them users, that one step keeps waiting, at most.
LIMIT: Final = 500


@dataclass(frozen=True, slots=True)
class DefaultsCommand:
    """Give `reward` to decisions that have waited for longer than `wait`.

    Attributes:
        after: where the last step ended.
        limit: decisions to look at, at most.
        is_giving: False to look at them and go on, since giving failed.
    """

    now: datetime
    wait: timedelta
    reward: float
    after: Position | None = None
    limit: int = LIMIT
    is_giving: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """How many got the default, and where to go on; None: that was the last, or somebody else is at it.

    Attributes:
        stepped_over: decisions that a step that does not give has looked at.
    """

    given: int
    after: Position | None = None
    is_busy: bool = False
    stepped_over: Sequence[UUID] = ()


def give_defaults(connection: Connection, commands: Sequence[DefaultsCommand]) -> list[Step]:
    """Take one step a command."""
    return [_step(connection, command) for command in commands]


def _step(connection: Connection, command: DefaultsCommand) -> Step:
    claim = upkeep.claim(connection, DEFAULT_REWARDS)
    if claim is None:
        return Step(0, is_busy=True)
    end = command.now - command.wait
    after = command.after or _start(connection, claim.done_until, end)
    until = min(after.decided_at + _WINDOW, end)
    overdue = upkeep.overdue(connection, after, until, command.limit)
    given = _give(connection, command, overdue) if overdue and command.is_giving else 0
    stepped_over = () if command.is_giving else [key.decision_id for key in overdue]
    is_full = len(overdue) == command.limit
    reached = max(overdue.values()) if is_full else max(after, _at(until))
    done_until = min(reached.decided_at, end - _MARGIN)
    # Never back: where the wait has grown since the last run, what was seen to has been seen to.
    upkeep.save(connection, DEFAULT_REWARDS, max(done_until, claim.done_until or done_until), command.now)
    return Step(given, reached if is_full or until < end else None, stepped_over=stepped_over)


def _give(connection: Connection, command: DefaultsCommand, overdue: Mapping[DecisionKey, Position]) -> int:
    # Reads them again under the locks of their states: a reward that came meanwhile is the one that counts.
    book = Book.open(connection, decisions=list(overdue))
    still_open = [decided for decided in book.decisions.values() if decided.is_open]
    for decided in sorted(still_open, key=lambda one: overdue[one.key]):
        book.reward(decided, command.reward, command.now, kind=Kind.DEFAULT)
    book.write(connection)
    return len(still_open)


def _start(connection: Connection, done_until: datetime | None, end: datetime) -> Position:
    return _at(done_until or upkeep.first(connection) or end)


def _at(moment: datetime) -> Position:
    return Position(moment, UUID(int=0))
