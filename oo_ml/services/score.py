"""Deciding: which candidate a person is shown, and the record of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from oo_ml.domain import policies
from oo_ml.domain.features import Moment, Task, encode
from oo_ml.domain.identifiers import time_of
from oo_ml.domain.policies import DIMENSIONS, EPSILON_GREEDY, Choice
from oo_ml.errors import DecisionExistsError, DecisionTooOldError, OoMlError
from oo_ml.storage import audit, decisions, states
from oo_ml.storage.decisions import Answered, DecisionRow
from oo_ml.storage.history import DecisionKey
from oo_ml.storage.states import PolicyState, StateKey, later

_RECENT: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tip that may be shown. `prompt_version` is None unless the client named it."""

    id: str
    source: str
    task: Task
    prompt_version: str | None = None


@dataclass(frozen=True, slots=True)
class DecideCommand:
    """Choose one of `candidates`, at least one, for a user.

    Attributes:
        request_digest: SHA-256 of the request if the client named the decision; None if the id is new.
    """

    user_id: str
    policy: str
    decision_id: UUID
    decided_at: datetime
    moment: Moment
    candidates: Sequence[Candidate]
    request_digest: bytes | None = None

    @property
    def key(self) -> DecisionKey:
        """The name of the row that it makes."""
        return DecisionKey(self.user_id, self.decision_id)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: the same, however often the decision is asked for."""

    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameters:
    """alpha of LinUCB, >= 0; epsilon of epsilon-greedy and the share of LinUCB's random choices, in [0, 1]."""

    alpha: float
    epsilon: float
    exploration: float = 0.0


def decide(
    connection: Connection, commands: Sequence[DecideCommand], *, parameters: Parameters
) -> list[Answer | OoMlError]:
    """Make one decision a command, in the order given, and write them down; what was decided before stays so."""
    keys = [StateKey(command.user_id, command.policy) for command in commands]
    current = states.lock(connection, keys)
    named = [command.key for command in commands if command.request_digest is not None]
    known = decisions.answered(connection, named) if named else {}
    too_old = _too_old(connection, [command for command in commands if command.key not in known])
    refused = known.keys() | too_old
    new = [key for key, command in zip(keys, commands, strict=True) if command.key not in refused]
    if missing := set(new) - current.keys():
        current |= states.lock_or_create(connection, list(missing))
    made = []
    outcomes: list[Answer | OoMlError] = []
    for command in commands:
        before = known.get(command.key)
        if before is None and command.key in too_old:
            outcomes.append(DecisionTooOldError())
            continue
        if before is None:
            key = StateKey(command.user_id, command.policy)
            current[key], decision = _decide(current[key], command, parameters)
            made.append(decision)
            before = known[command.key] = Answered(command.request_digest, decision.answer)
        outcomes.append(
            Answer(before.answer) if before.request_digest == command.request_digest else DecisionExistsError()
        )
    if made:
        states.save(connection, [current[key] for key in sorted({decision.key for decision in made})])
        decisions.insert(connection, made)
    return outcomes


def _too_old(connection: Connection, commands: Sequence[DecideCommand]) -> set[DecisionKey]:
    """Return those that would be decisions of a month that retention has detached, perhaps made there once already."""
    # Hardly ever: what is new is named by about now.
    old = [
        command
        for command in commands
        if command.request_digest is not None and time_of(command.decision_id) < command.decided_at - _RECENT
    ]
    since = audit.history_from(connection) if old else None
    return {command.key for command in old if since is not None and time_of(command.decision_id) < since}


def _decide(state: PolicyState, command: DecideCommand, parameters: Parameters) -> tuple[PolicyState, DecisionRow]:
    X = encode(command.moment, [candidate.task for candidate in command.candidates], DIMENSIONS[command.policy])
    seed = command.decision_id.int
    if command.policy == EPSILON_GREEDY:
        exploration, alpha = parameters.epsilon, None
        choice = policies.choose_epsilon_greedy(state.model, X, exploration, seed)
    else:
        exploration, alpha = parameters.exploration, parameters.alpha
        choice = policies.choose_linucb(state.model, X, alpha, exploration, seed)
    chosen = command.candidates[choice.index]
    propensity = _propensity(command, choice)
    decision = DecisionRow(
        key=state.key,
        decision_id=command.decision_id,
        epoch=state.epoch,
        version=state.version,
        decided_at=command.decided_at,
        score=choice.score,
        propensity=propensity,
        exploring=choice.exploring,
        tip_id=chosen.id,
        prompt_version=chosen.prompt_version,
        x=X[choice.index],
        context={"hour_of_day": command.moment.hour_of_day, "day_of_week": command.moment.day_of_week},
        features=_shown_features(command, chosen, choice),
        candidates=[_considered(candidate) for candidate in command.candidates],
        answer={
            "tip_id": chosen.id,
            "score": choice.score,
            "policy": command.policy,
            "decision_id": str(command.decision_id),
            "propensity": propensity,
        },
        request_digest=command.request_digest,
        exploration=exploration,
        alpha=alpha,
        exploit=choice.exploit,
        explore=choice.explore,
        propensities=choice.propensities,
    )
    decided = replace(
        state,
        pulls=state.pulls + 1,
        explore_count=state.explore_count + choice.exploring,
        last_updated=later(state.last_updated, command.decided_at),
    )
    return decided, decision


def _propensity(command: DecideCommand, choice: Choice) -> float:
    """Return the probability with which this tip was to be chosen: clients may offer one twice."""
    chosen = command.candidates[choice.index].id
    same = [candidate.id == chosen for candidate in command.candidates]
    # The sum may round past one.
    return min(float(choice.propensities[same].sum()), 1.0)


def _raw(task: Task) -> dict[str, Any]:
    return {
        "is_overdue": task.is_overdue,
        "task_age_days": task.task_age_days,
        "priority": task.priority,
    }


def _shown_features(command: DecideCommand, chosen: Candidate, choice: Choice) -> dict[str, Any]:
    shown = {"hour_of_day": command.moment.hour_of_day, **_raw(chosen.task)}
    if command.policy == EPSILON_GREEDY:
        shown |= {"day_of_week": command.moment.day_of_week, "exploring": choice.exploring}
    return shown


def _considered(candidate: Candidate) -> dict[str, Any]:
    considered = {"id": candidate.id, "source": candidate.source, "features": _raw(candidate.task)}
    if candidate.prompt_version is not None:
        considered["prompt_version"] = candidate.prompt_version
    return considered
