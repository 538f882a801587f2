"""Learning: a reward goes into the model of its user, into the ledger, and to the decision that it is for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from oo_ml.domain.features import Fields
from oo_ml.domain.learning import Change, Kind
from oo_ml.domain.policies import Policy
from oo_ml.errors import IdempotencyKeyReusedError, OoMlError, OtherTipError, UnknownDecisionError
from oo_ml.services.decisions.unit_of_work import UnitOfWork
from oo_ml.storage.decision_types import Decision, DecisionKey, TipKey
from oo_ml.storage.feature_history import read_awaiting_decisions
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.reward_ledger import CallKey, IdempotencyKey, LedgerEntry, NamedReward, read_named_rewards

__all__ = [
    "CorrectCommand",
    "DecisionRewardCommand",
    "IdempotencyKey",
    "Lesson",
    "RewardCommand",
    "Rewarded",
    "correct",
    "learn",
]


@dataclass(frozen=True, slots=True)
class RewardCommand:
    """Learn a reward, in [-1, 1], for a tip. With an idempotency key the call counts once.

    Attributes:
        context, features: raw fields to learn from; policy.features.find_bad_field has accepted them.
    """

    user_id: str
    policy: Policy
    tip_id: str
    reward: float
    received_at: datetime
    context: Fields
    features: Fields
    idempotency_key: IdempotencyKey | None = None

    @property
    def state_key(self) -> StateKey:
        """Name of the state that learns."""
        return StateKey(self.user_id, self.policy.name)


@dataclass(frozen=True, slots=True)
class DecisionRewardCommand:
    """Learn a reward, in [-1, 1], for a decision, with the features and the policy of that decision. It counts once."""

    user_id: str
    decision_id: UUID
    tip_id: str
    reward: float
    received_at: datetime
    idempotency_key: IdempotencyKey | None = None

    @property
    def key(self) -> DecisionKey:
        """Name of the decision."""
        return DecisionKey(self.user_id, self.decision_id)


@dataclass(frozen=True, slots=True)
class CorrectCommand:
    """Set the reward that counts for a decision; None retracts it."""

    user_id: str
    decision_id: UUID
    reward: float | None
    received_at: datetime

    @property
    def key(self) -> DecisionKey:
        """Name of the decision."""
        return DecisionKey(self.user_id, self.decision_id)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A reward that a policy has learned, and the seconds since its decision; None: it belongs to no decision."""

    policy: str
    delay: float | None


@dataclass(frozen=True, slots=True)
class Rewarded:
    """Result of a command: the reward that counts now (None: retracted), and its decision, if any.

    Attributes:
        applied: the command changed something.
        lesson: the reward that the command taught its policy; None if it taught none, or corrected one.
    """

    applied: bool
    reward: float | None
    decision_id: UUID | None
    lesson: Lesson | None = field(default=None, compare=False)


def learn(connection: Writing, commands: Sequence[RewardCommand | DecisionRewardCommand]) -> list[Rewarded | OoMlError]:
    """Apply one reward a command, in the order given: A += x x^T, b += r x.

    A reward that names no decision goes to the tip's latest decision that awaits a reaction, if there is one.
    """
    for_tips = [command for command in commands if isinstance(command, RewardCommand)]
    before: dict[CallKey, NamedReward] = {}

    def needed() -> set[StateKey]:
        """Return the states of new calls: a repeated call creates no row."""
        before.update(_read_before(connection, commands))
        return {command.state_key for command in for_tips if _find_first_reward(before, command) is None}

    unit = UnitOfWork.lock(
        connection,
        {command.state_key: command.policy.fresh() for command in for_tips},
        [command.key for command in commands if isinstance(command, DecisionRewardCommand)],
        needed=needed,
    )
    before.update(_read_before(connection, commands))
    if decisions := [DecisionKey(call.user_id, one.decision_id) for call, one in before.items() if one.decision_id]:
        unit.load_decisions(connection, decisions)
    waiting = _read_waiting(connection, unit, [one for one in for_tips if _find_first_reward(before, one) is None])
    outcomes: list[Rewarded | OoMlError] = []
    for command in commands:
        first = _find_first_reward(before, command)
        outcome = _learn(unit, command, waiting) if first is None else _replay(unit, command, first)
        if (key := command.idempotency_key) and isinstance(outcome, Rewarded) and outcome.applied:
            before[CallKey(command.user_id, key.value)] = NamedReward(key.digest, command.reward, outcome.decision_id)
        outcomes.append(outcome)
    unit.write(connection)
    return outcomes


def correct(connection: Writing, commands: Sequence[CorrectCommand]) -> list[Rewarded | OoMlError]:
    """Set the reward of each decision to that of its command. An equal reward changes nothing."""
    unit = UnitOfWork.lock(connection, decisions=[command.key for command in commands])
    outcomes = [_correct(unit, command) for command in commands]
    unit.write(connection)
    return outcomes


def _read_before(
    connection: Reading, commands: Sequence[RewardCommand | DecisionRewardCommand]
) -> Mapping[CallKey, NamedReward]:
    """Return the rewards that came before with the Idempotency-Keys of the commands."""
    calls = [CallKey(command.user_id, key.value) for command in commands if (key := command.idempotency_key)]
    return read_named_rewards(connection, calls) if calls else {}


def _find_first_reward(
    before: Mapping[CallKey, NamedReward], command: RewardCommand | DecisionRewardCommand
) -> NamedReward | None:
    """Return the first reward with the command's Idempotency-Key, if there is one."""
    key = command.idempotency_key
    return None if key is None else before.get(CallKey(command.user_id, key.value))


def _replay(
    unit: UnitOfWork, command: RewardCommand | DecisionRewardCommand, first: NamedReward
) -> Rewarded | OoMlError:
    """Return the outcome of a call that came before, or the refusal of another call with the same Idempotency-Key."""
    if command.idempotency_key is not None and command.idempotency_key.digest != first.digest:
        return IdempotencyKeyReusedError()
    decision = first.decision_id and unit.decisions.get(DecisionKey(command.user_id, first.decision_id))
    # The reward that counts now: it may have been amended. Of a month past retention only the ledger is left.
    return Rewarded(applied=False, reward=decision.reward if decision else first.reward, decision_id=first.decision_id)


def _read_waiting(
    connection: Reading, unit: UnitOfWork, commands: Sequence[RewardCommand]
) -> dict[TipKey, list[DecisionKey]]:
    """Return, for each tip, those of its decisions that this batch may reward, the latest first."""
    if not commands:
        return {}
    counts = Counter(_tip(unit, command) for command in commands)
    # Commands that name a decision may take some of them.
    for decision in unit.decisions.values():
        tip = TipKey(decision.state_key, decision.epoch, decision.tip_id)
        if tip in counts:
            counts[tip] += 1
    found = read_awaiting_decisions(connection, counts)
    unit.add_decisions(connection, [one for decisions in found.values() for one in decisions])
    return {tip: [one.key for one in decisions] for tip, decisions in found.items()}


def _tip(unit: UnitOfWork, command: RewardCommand) -> TipKey:
    return TipKey(command.state_key, unit.states[command.state_key].epoch, command.tip_id)


def _learn(
    unit: UnitOfWork, command: RewardCommand | DecisionRewardCommand, waiting: Mapping[TipKey, Sequence[DecisionKey]]
) -> Rewarded | OoMlError:
    if isinstance(command, RewardCommand):
        return _learn_for_tip(unit, command, waiting)
    return _learn_for_decision(unit, command)


def _learn_for_tip(
    unit: UnitOfWork, command: RewardCommand, waiting: Mapping[TipKey, Sequence[DecisionKey]]
) -> Rewarded:
    tip = _tip(unit, command)
    x = command.policy.features.encode([command.context], [command.features], [1]).X[0]
    at, idempotency_key = command.received_at, command.idempotency_key
    for decision in map(unit.decisions.__getitem__, waiting[tip]):
        if decision.awaits_reaction:
            entry = unit.entry_for(decision, command.reward, at, x=x, idempotency_key=idempotency_key)
            lesson = _lesson(decision, at)
            break
    else:
        lesson = Lesson(command.policy.name, None)
        entry = LedgerEntry(
            key=tip.state_key,
            epoch=tip.epoch,
            version=unit.next_version(tip.state_key, tip.epoch),
            recorded_at=at,
            change=Change(Kind.REWARD, x, command.reward, weight=command.policy.weigh(at)),
            tip_id=command.tip_id,
            idempotency_key=idempotency_key,
        )
    unit.apply(entry)
    return Rewarded(applied=True, reward=command.reward, decision_id=entry.decision_id, lesson=lesson)


def _learn_for_decision(unit: UnitOfWork, command: DecisionRewardCommand) -> Rewarded | OoMlError:
    decision = unit.decisions.get(command.key)
    if decision is None:
        return UnknownDecisionError()
    if decision.tip_id != command.tip_id:
        return OtherTipError()
    if not decision.awaits_reaction:
        return Rewarded(applied=False, reward=decision.reward, decision_id=decision.decision_id)
    unit.apply(unit.entry_for(decision, command.reward, command.received_at, idempotency_key=command.idempotency_key))
    lesson = _lesson(decision, command.received_at)
    return Rewarded(applied=True, reward=command.reward, decision_id=decision.decision_id, lesson=lesson)


def _lesson(decision: Decision, received_at: datetime) -> Lesson:
    # The clocks of two services differ.
    return Lesson(decision.policy, max(0.0, (received_at - decision.decided_at).total_seconds()))


def _correct(unit: UnitOfWork, command: CorrectCommand) -> Rewarded | OoMlError:
    decision = unit.decisions.get(command.key)
    if decision is None:
        return UnknownDecisionError()
    # A default reward differs from the same number sent by the user.
    applied = decision.reward != command.reward or (decision.awaits_reaction and command.reward is not None)
    if applied:
        unit.apply(unit.entry_for(decision, command.reward, command.received_at))
    return Rewarded(applied, command.reward, command.decision_id)
