"""Default rewards: a decision without a reaction in time gets this reward, until a reaction replaces it.

A look finds overdue decisions and stores the time up to which the task is done. Then each user's rewards are one
transaction. The stored time never passes an untried decision, and a decision with a reward is not overdue. So after a
crash the next run, in any process, misses none and repeats none. A broken decision does not delay the others.
"""

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from oo_ml.domain.learning import Kind
from oo_ml.errors import UnavailableError
from oo_ml.execution.pool import Pool
from oo_ml.services.decisions.unit_of_work import UnitOfWork
from oo_ml.services.each import each
from oo_ml.settings import Settings
from oo_ml.storage import upkeep
from oo_ml.storage.decision_types import DecisionKey
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.upkeep import DEFAULT_REWARDS, Position

logger = logging.getLogger(__name__)

# A decision commits a little after its time, and clocks differ. So each run looks at the last hour again.
_MARGIN: Final = timedelta(hours=1)
# The time span of one look. If the last run was recent, one look is the whole run.
_WINDOW: Final = _MARGIN * 1.5
# Decisions that one look returns, at most.
LIMIT: Final = 500


@dataclass(frozen=True, slots=True)
class Defaults:
    """Number of decisions that got the default reward, and those that `failed` to get it and were logged and skipped.

    `is_busy`: the run stopped because another process is running the task.
    """

    given: int = 0
    is_busy: bool = False
    failed: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class LookCommand:
    """Find decisions that have waited for longer than `wait`.

    Attributes:
        limit: decisions to return, at most.
        after: the position to start after; None: where the last run ended.
        done_until: the time that the last look of this run stored.
        tried: overdue decisions from `after` on that did not get the reward.
    """

    now: datetime
    wait: timedelta
    limit: int = LIMIT
    after: Position | None = None
    done_until: datetime | None = None
    tried: Mapping[DecisionKey, Position] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """Result of a look.

    Attributes:
        overdue: the first decisions that were not tried, in the order in which they were made.
        after: the position where the next look starts; None: the run is complete.
        done_until: the stored time. No earlier decision is overdue, except tried ones.
    """

    overdue: Mapping[DecisionKey, Position]
    after: Position | None
    done_until: datetime


@dataclass(frozen=True, slots=True)
class GiveCommand:
    """Give `reward` to the decisions of one user, except those that got a reward meanwhile."""

    decisions: Sequence[DecisionKey]
    reward: float
    now: datetime


async def give_default_rewards(
    workers: Pool[Writing], settings: Settings, now: datetime, *, limit: int = LIMIT
) -> Defaults:
    """Give the default reward, if OO_ML_REWARD_WAIT is set, to every overdue decision; one transaction a user.

    One look returns at most `limit` decisions.

    Raises:
        UnavailableError: the database is unavailable; the transactions so far are committed.
    """
    if settings.reward_wait is None:
        return Defaults()
    command = LookCommand(now, timedelta(seconds=settings.reward_wait), limit)
    given, failed = 0, tuple[UUID, ...]()
    while True:
        [found] = await workers.run(look, [command])
        if found is None:
            return Defaults(given, is_busy=True, failed=failed)
        if found.after is None:
            return Defaults(given, failed=failed)
        tried = {**command.tried, **found.overdue}
        for decisions in _group_by_user(found.overdue):
            outcome = await _give_to_user(workers, GiveCommand(decisions, settings.default_reward, now))
            if outcome is None:
                return Defaults(given, is_busy=True, failed=failed)
            given += len(outcome.given)
            failed += outcome.failed
            for key in outcome.given:
                del tried[key]
        tried = {key: position for key, position in tried.items() if position > found.after}
        command = replace(command, after=found.after, done_until=found.done_until, tried=tried)


@each
def look(connection: Writing, command: LookCommand) -> Look | None:
    """Take one look; None: another process is running the task."""
    claim = upkeep.claim(connection, DEFAULT_REWARDS)
    if claim is None:
        return None
    end = command.now - command.wait
    after = _find_start(connection, command, claim.done_until, end)
    until = min(after.decided_at + _WINDOW, end)
    found = upkeep.find_overdue(connection, after, until, command.limit + len(command.tried))
    overdue = {key: position for key, position in found.items() if key not in command.tried}
    # Start the next look at the first of them, because a replay may add decisions to this time meanwhile.
    reached = _begin_at(min(overdue.values()).decided_at) if overdue else max(after, _begin_at(until))
    done_until = min(reached.decided_at, end - _MARGIN)
    # Never go back: after OO_ML_REWARD_WAIT grows, decisions before the stored time have still been tried.
    done_until = max(done_until, claim.done_until or done_until)
    upkeep.save(connection, DEFAULT_REWARDS, done_until, command.now)
    return Look(overdue, reached if overdue or until < end else None, done_until)


@each
def give(connection: Writing, command: GiveCommand) -> list[DecisionKey] | None:
    """Return the decisions that got the reward; None: another process is running the task."""
    if upkeep.claim(connection, DEFAULT_REWARDS) is None:
        return None
    # Read the decisions again under the locks of their states: a reward that came meanwhile counts instead.
    unit = UnitOfWork.lock(connection, decisions=command.decisions)
    still_open = [key for key in command.decisions if key in unit.decisions and unit.decisions[key].is_open]
    for key in still_open:
        unit.apply(unit.entry_for(unit.decisions[key], command.reward, command.now, kind=Kind.DEFAULT))
    unit.write(connection)
    return still_open


@dataclass(frozen=True, slots=True)
class _Given:
    given: Sequence[DecisionKey]
    failed: tuple[UUID, ...] = ()


async def _give_to_user(workers: Pool[Writing], command: GiveCommand) -> _Given | None:
    """Give a user's rewards in one transaction. If it fails, give each alone, so that only broken decisions fail."""
    try:
        [given] = await workers.run(give, [command])
    except UnavailableError:
        raise
    except Exception as error:  # noqa: BLE001 - it is logged, and the task goes on
        if len(command.decisions) == 1:
            [key] = command.decisions
            _report(key, error)
            return _Given([], (key.decision_id,))
    else:
        return None if given is None else _Given(given)
    alone = []
    for key in command.decisions:
        outcome = await _give_to_user(workers, replace(command, decisions=[key]))
        if outcome is None:
            return None
        alone.append(outcome)
    return _Given([key for one in alone for key in one.given], tuple(name for one in alone for name in one.failed))


def _report(key: DecisionKey, error: Exception) -> None:
    # Log the traceback without the message, because the message may quote a user's data.
    trace = "".join(traceback.format_tb(error.__traceback__))
    logger.error("a default reward failed: %s\n%s", type(error).__name__, trace)
    logger.error("decision %s can't be given the default reward and is stepped over", key.decision_id)


def _find_start(connection: Reading, command: LookCommand, done_until: datetime | None, end: datetime) -> Position:
    # A replay of a user with older open decisions sets the stored time back.
    went_back = command.done_until is not None and (done_until is None or done_until < command.done_until)
    if command.after is None or went_back:
        return _begin_at(done_until or upkeep.find_first_decision(connection) or end)
    return command.after


def _group_by_user(decisions: Mapping[DecisionKey, Position]) -> list[list[DecisionKey]]:
    """Group decisions by user, in their order."""
    groups: dict[str, list[DecisionKey]] = {}
    for key in decisions:
        groups.setdefault(key.user_id, []).append(key)
    return list(groups.values())


def _begin_at(moment: datetime) -> Position:
    return Position(moment, UUID(int=0))
