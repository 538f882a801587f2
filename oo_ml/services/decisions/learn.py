"""Learning: a person's reaction goes into their model, their ledger and the decision it belongs to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from oo_ml.domain.features import Moment, Task, encode
from oo_ml.domain.policies import DIMENSIONS
from oo_ml.errors import IdempotencyKeyReusedError, OoMlError, OtherTipError, UnknownDecisionError
from oo_ml.services.decisions.unit_of_work import Book
from oo_ml.storage import history, ledger, states
from oo_ml.storage.history import Decided, DecisionKey, TipKey
from oo_ml.storage.ledger import Once, Recorded
from oo_ml.storage.states import StateKey


@dataclass(frozen=True, slots=True)
class RewardCommand:
    """The reaction to a tip: `reward` in [-1, 1], with the features it is learned for.

    Attributes:
        moment, task: what the tip was shown with.
        once: what the client named the call by, if it did: the same call counts once.
    """

    user_id: str
    policy: str
    tip_id: str
    reward: float
    received_at: datetime
    moment: Moment
    task: Task
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class DecisionRewardCommand:
    """The reaction to a decision: learned with the features, and for the policy, of that decision. It counts once.

    Attributes:
        once: what the client named the call by, if it did.
    """

    user_id: str
    decision_id: UUID
    tip_id: str
    reward: float
    received_at: datetime
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class CorrectCommand:
    """Make `reward` the one that counts for a decision; None: no reward counts any more."""

    user_id: str
    decision_id: UUID
    reward: float | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Rewarded:
    """What came of it.

    Attributes:
        applied: whether it changed anything.
        reward: the one that counts now; None if it was retracted.
        decision_id: the decision that it went to, if there is one.
    """

    applied: bool
    reward: float | None
    decision_id: UUID | None


def learn(
    connection: Connection, commands: Sequence[RewardCommand | DecisionRewardCommand]
) -> list[Rewarded | OoMlError]:
    """Apply one reward a command, in the order given: A += x x^T, b += r x.

    A reward that names no decision goes to the tip's latest one that still waits for a reaction, if there is any.
    """
    named = [
        DecisionKey(command.user_id, command.decision_id)
        for command in commands
        if isinstance(command, DecisionRewardCommand)
    ]
    keys = _keys([command for command in commands if isinstance(command, RewardCommand)])
    book = Book.open(connection, keys, named, all_or_none=True)
    if not book.states.keys() >= set(keys):
        states.make(connection, _keys(_new(commands, _recorded(connection, book, commands))))
        book = Book.open(connection, keys, named)
    recorded = _recorded(connection, book, commands)
    new = _new(commands, recorded)
    book.create(connection, _keys(new))
    waiting = _waiting(connection, book, new)
    outcomes: list[Rewarded | OoMlError] = []
    for command in commands:
        outcome = _replayed(book, recorded, command)
        if outcome is None:
            outcome = (
                _learn_for_tip(book, waiting, command)
                if isinstance(command, RewardCommand)
                else _learn_for_decision(book, command)
            )
        if command.once is not None and isinstance(outcome, Rewarded) and outcome.applied:
            recorded[command.user_id, command.once.key] = Recorded(
                command.once.digest, command.reward, outcome.decision_id
            )
        outcomes.append(outcome)
    book.write(connection)
    return outcomes


def correct(connection: Connection, commands: Sequence[CorrectCommand]) -> list[Rewarded | OoMlError]:
    """Make the reward of each decision what the command says; where it is that already, nothing changes."""
    book = Book.open(connection, decisions=[DecisionKey(command.user_id, command.decision_id) for command in commands])
    outcomes: list[Rewarded | OoMlError] = []
    for command in commands:
        decided = book.decisions.get(DecisionKey(command.user_id, command.decision_id))
        if decided is None:
            outcomes.append(UnknownDecisionError())
            continue
        # What was only assumed is another thing than the same number said by somebody.
        applied = decided.reward != command.reward or (decided.awaits_reaction and command.reward is not None)
        if applied and command.reward is None:
            book.retract(decided, command.received_at)
        elif applied and command.reward is not None:
            book.reward(decided, command.reward, command.received_at)
        outcomes.append(Rewarded(applied, command.reward, command.decision_id))
    book.write(connection)
    return outcomes


def _new(
    commands: Sequence[RewardCommand | DecisionRewardCommand], recorded: Mapping[tuple[str, str], Recorded]
) -> list[RewardCommand]:
    """Return those that name no decision, and did not come before."""
    return [
        command
        for command in commands
        if isinstance(command, RewardCommand)
        and (command.once is None or (command.user_id, command.once.key) not in recorded)
    ]


def _keys(commands: Sequence[RewardCommand]) -> list[StateKey]:
    return [StateKey(command.user_id, command.policy) for command in commands]


def _recorded(
    connection: Connection, book: Book, commands: Sequence[RewardCommand | DecisionRewardCommand]
) -> dict[tuple[str, str], Recorded]:
    """Return what came before with the commands' keys; its decisions are read into `book` as far as it has the lock."""
    names = [(command.user_id, command.once.key) for command in commands if command.once is not None]
    recorded = ledger.recorded(connection, names) if names else {}
    decisions = [
        DecisionKey(user_id, before.decision_id)
        for (user_id, _), before in recorded.items()
        if before.decision_id is not None
    ]
    if decisions:
        book.add(connection, decisions)
    return recorded


def _replayed(
    book: Book, recorded: Mapping[tuple[str, str], Recorded], command: RewardCommand | DecisionRewardCommand
) -> Rewarded | OoMlError | None:
    """Return what is said of a call whose key came before, None if it did not."""
    before = recorded.get((command.user_id, command.once.key)) if command.once is not None else None
    if command.once is None or before is None:
        return None
    if before.digest != command.once.digest:
        return IdempotencyKeyReusedError()
    decided = before.decision_id and book.decisions.get(DecisionKey(command.user_id, before.decision_id))
    # What counts now: it may have been amended since. A month past retention tells no more than the ledger.
    return Rewarded(applied=False, reward=decided.reward if decided else before.reward, decision_id=before.decision_id)


def _waiting(connection: Connection, book: Book, commands: Sequence[RewardCommand]) -> dict[TipKey, list[DecisionKey]]:
    """Return for each tip those of its decisions that may be rewarded by this batch, the latest first."""
    if not commands:
        return {}
    counts = Counter(_tip(book, command) for command in commands)
    # Commands that name a decision may take some of them away.
    for decided in book.decisions.values():
        tip = TipKey(decided.state_key, decided.epoch, decided.tip_id)
        if tip in counts:
            counts[tip] += 1
    found = history.latest(connection, counts)
    book.take(connection, {one.key: one for decisions in found.values() for one in decisions})
    return {tip: [one.key for one in decisions] for tip, decisions in found.items()}


def _tip(book: Book, command: RewardCommand) -> TipKey:
    key = StateKey(command.user_id, command.policy)
    return TipKey(key, book.states[key].epoch, command.tip_id)


def _learn_for_tip(book: Book, waiting: dict[TipKey, list[DecisionKey]], command: RewardCommand) -> Rewarded:
    tip = _tip(book, command)
    x = encode([command.moment], [command.task], DIMENSIONS[command.policy])[0]
    for decided in map(book.decisions.__getitem__, waiting[tip]):
        if decided.awaits_reaction:
            book.reward(decided, command.reward, command.received_at, x=x, once=command.once)
            return Rewarded(applied=True, reward=command.reward, decision_id=decided.decision_id)
    book.teach(tip.state_key, x, command.reward, command.tip_id, command.received_at, once=command.once)
    return Rewarded(applied=True, reward=command.reward, decision_id=None)


def _learn_for_decision(book: Book, command: DecisionRewardCommand) -> Rewarded | OoMlError:
    decided: Decided | None = book.decisions.get(DecisionKey(command.user_id, command.decision_id))
    if decided is None:
        return UnknownDecisionError()
    if decided.tip_id != command.tip_id:
        return OtherTipError()
    if not decided.awaits_reaction:
        return Rewarded(applied=False, reward=decided.reward, decision_id=decided.decision_id)
    book.reward(decided, command.reward, command.received_at, once=command.once)
    return Rewarded(applied=True, reward=command.reward, decision_id=decided.decision_id)
