"""Warm start of a policy: the rewards of decisions by other policies count for the users' states of this one too.

Each reward becomes a ledger entry of the kind `warm`, so the state stays the fold of the ledger. A decision is folded
once, so an interrupted run can be run again, and a later one adds what came since. Other calls go on meanwhile.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from sqlalchemy import Engine

from oo_ml.domain.learning import Change, Kind
from oo_ml.domain.policies import Policy
from oo_ml.errors import OoMlError, RetiredPolicyError, RowLockedError, UnknownPolicyError
from oo_ml.execution import retry
from oo_ml.execution.outcomes import only
from oo_ml.execution.retry import Service
from oo_ml.services.decisions.unit_of_work import UnitOfWork
from oo_ml.services.each import each
from oo_ml.services.policies.compiled import compile_row
from oo_ml.services.walk_users import Walk, walk_all
from oo_ml.settings import Settings
from oo_ml.storage import policies, user_ranges
from oo_ml.storage.policy_state import PolicyState, StateKey, create_states, lock_users, read_states
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.reward_ledger import EpochKey, LedgerEntry
from oo_ml.storage.rewarded_decisions import RewardCounts, RewardedDecision, count_by_user, read_waiting
from oo_ml.storage.user_ranges import UserRange

# Decisions of a transaction, which holds the states of their user locked.
LIMIT: Final = 500


@dataclass(frozen=True, slots=True)
class Source:
    """The policy that learns, and the names of those whose decisions it learns from, at least one."""

    policy: Policy
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class FindSourceCommand:
    """Find a policy to warm, and its sources; without names they are all other policies."""

    policy: str
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class WarmCommand:
    """Learn from decisions of a user behind the position `after`."""

    user_id: str
    after: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Result of a command.

    Attributes:
        rewards: decisions whose reward counts now.
        left_out: decisions whose fields the policy can't read.
        reached: the position to go on behind; None: there are no more.
    """

    rewards: int
    left_out: int
    reached: int | None


@dataclass(frozen=True, slots=True)
class Warmed:
    """Numbers of a part of the walk, or of several.

    Attributes:
        states: states that the users of the part had before.
        users: users from whose decisions the policy has learned.
        rewards: rewards that count in their states now.
        left_out: rewarded decisions whose fields the policy can't read.
        already_there: rewards that a run before has folded.
    """

    states: int = 0
    users: int = 0
    rewards: int = 0
    left_out: int = 0
    already_there: int = 0

    def __add__(self, other: "Warmed") -> "Warmed":
        return Warmed(
            self.states + other.states,
            self.users + other.users,
            self.rewards + other.rewards,
            self.left_out + other.left_out,
            self.already_there + other.already_there,
        )


# The parts so far of each user who was locked.
_Locked = dict[str, list[Part]]


@each
def find_source(connection: Reading, command: FindSourceCommand) -> Source | OoMlError:
    """Return the policy and its sources. Refuse unknown policies, and a retired one to warm."""
    found = {row.policy: row for row in policies.list_all(connection)}
    for name in (command.policy, *command.names):
        if name not in found:
            return UnknownPolicyError(f"Unknown policy: {name}; `oo-ml policies list` shows those published")
    row = found[command.policy]
    if row.status == "retired":
        return RetiredPolicyError(f"{row.policy} is retired: it makes no more decisions, so it can't be warmed")
    return Source(compile_row(row, {}), command.names or sorted(found.keys() - {row.policy}))


def walk_all_rewards(
    engine: Engine, settings: Settings, source: Source, *, dry_run: bool = False, limit: int = LIMIT
) -> Walk[Warmed]:
    """Warm the states of all users, in transactions of at most `limit` decisions of one user.

    A dry run counts what would be folded, and writes nothing. A user who stays locked is left for the end, and tried
    again then, with the others, for OO_ML_LONG_TIMEOUT.

    Raises, when a part is asked for:
        RowLockedError: some users are locked after that time too; all others are warm.
        UnavailableError: the database is unavailable; the users so far are warm.
    """
    service: Service[WarmCommand, Part] = partial(preview if dry_run else warm, source=source, limit=limit)
    walk = walk_all(engine, settings, partial(count_rewards, source=source))

    def run(command: WarmCommand) -> Part:
        return only(retry.run(engine, service, [command], time.monotonic() + settings.long_timeout))

    def warm_parts() -> Iterator[Warmed]:
        locked: _Locked = {}
        for states, counts in walk.parts:
            for one in counts:
                yield Warmed(already_there=one.learned)
                if one.waiting:
                    yield from _follow(run, one.user_id, locked)
            yield Warmed(states)
        yield from _follow_locked(run, locked, settings.long_timeout)

    return Walk(walk.states, warm_parts())


def _follow(run: Callable[[WarmCommand], Part], user_id: str, locked: _Locked) -> Iterator[Warmed]:
    """Warm the rest of a user; if another session holds a lock, keep the parts so far in `locked` instead."""
    parts = locked.pop(user_id, [])
    after = parts[-1].reached if parts else 0
    while after is not None:
        try:
            parts.append(run(WarmCommand(user_id, after)))
        except RowLockedError:
            locked[user_id] = parts
            return
        after = parts[-1].reached
    rewards = sum(part.rewards for part in parts)
    yield Warmed(0, int(rewards > 0), rewards, sum(part.left_out for part in parts))


def _follow_locked(run: Callable[[WarmCommand], Part], locked: _Locked, patience: float) -> Iterator[Warmed]:
    """Warm the users who were locked, in turn, for `patience` seconds.

    Raises:
        RowLockedError: some are still locked.
    """
    deadline = time.monotonic() + patience
    while locked and time.monotonic() < deadline:
        for user_id in list(locked):
            yield from _follow(run, user_id, locked)
    if locked:
        raise RowLockedError(f"Another session holds locks; users who are not warm for that reason: {len(locked)}")


@each
def count_rewards(connection: Reading, users: UserRange, *, source: Source) -> tuple[int, list[RewardCounts]]:
    """Return the number of states of a range, and the counts of its users with rewarded decisions."""
    counts = count_by_user(connection, users, source.policy.name, source.names)
    return user_ranges.count_states(connection, users), counts


@each
def warm(connection: Writing, command: WarmCommand, *, source: Source, limit: int = LIMIT) -> Part:
    """Fold the next `limit` decisions of a user into the state of the policy.

    All states of the user are locked, so that a reset comes before it or after it.
    """
    key, now = StateKey(command.user_id, source.policy.name), datetime.now(UTC)
    savepoint = connection.begin_nested()
    # As for an erasure, rows are created before any lock (ADR 19).
    create_states(connection, {key: source.policy.fresh()})
    unit = UnitOfWork(lock_users(connection, [command.user_id]), {}, {}, {}, [])
    found = _find_rewards(connection, command, unit.states.values(), source, limit)
    # The state is missing if the user was erased meanwhile.
    if not found.changes or key not in unit.states:
        # No state is left without a reason: it would name a user who was erased.
        savepoint.rollback()
        return Part(0, found.left_out, found.reached)
    epoch = unit.states[key].epoch
    for decision, change in found.changes:
        unit.apply(
            LedgerEntry(
                key,
                epoch,
                unit.next_version(key, epoch),
                now,
                change,
                decision.tip_id,
                origin_decision_id=decision.decision_id,
            )
        )
    unit.write(connection)
    savepoint.commit()
    return found.count()


@each
def preview(connection: Reading, command: WarmCommand, *, source: Source, limit: int = LIMIT) -> Part:
    """Return the result that `warm` would have; lock nothing and write nothing."""
    states = read_states(connection, command.user_id)
    return _find_rewards(connection, command, states.values(), source, limit).count()


@dataclass(frozen=True, slots=True)
class _Found:
    """Decisions with the changes by which the policy learns from them.

    Attributes:
        left_out, reached: as in Part.
    """

    changes: Sequence[tuple[RewardedDecision, Change]]
    left_out: int
    reached: int | None

    def count(self) -> Part:
        return Part(len(self.changes), self.left_out, self.reached)


def _find_rewards(
    connection: Reading, command: WarmCommand, states: Iterable[PolicyState], source: Source, limit: int
) -> _Found:
    """Return the next decisions of a user's current epochs."""
    policy = source.policy
    epochs = [EpochKey(one.key, one.epoch) for one in states if one.key.policy in source.names]
    waiting = read_waiting(connection, StateKey(command.user_id, policy.name), epochs, command.after, limit)
    readable = [one for one in waiting if policy.features.find_bad_field(one.context, [one.features]) is None]
    X = policy.features.encode(
        [one.context for one in readable], [one.features for one in readable], [1] * len(readable)
    ).X
    changes = [
        (one, Change(Kind.WARM, x, one.reward, weight=policy.weigh(one.decided_at)))
        for one, x in zip(readable, X, strict=True)
    ]
    return _Found(changes, len(waiting) - len(readable), waiting[-1].position if len(waiting) == limit else None)
