"""Deciding: which candidate a person is shown, and the record of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate, count
from typing import Any, Final, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from oo_ml.domain import policies
from oo_ml.domain.features import Moment, TaskFeatures, encode
from oo_ml.domain.identifiers import time_of
from oo_ml.domain.policies import DIMENSIONS, EPSILON_GREEDY, Choice, Rule
from oo_ml.domain.ridge import stack
from oo_ml.errors import DecisionExistsError, DecisionTooOldError, OoMlError
from oo_ml.storage import audit, decisions, states
from oo_ml.storage.decisions import Answered, DecisionRow
from oo_ml.storage.history import DecisionKey
from oo_ml.storage.states import PolicyState, StateKey, later

_RECENT: Final = timedelta(days=1)
# Characters of the chosen tip's text that are kept: enough to see what was shown.
_MAX_CONTENT: Final = 2000


class Candidate(Protocol):
    """A tip that may be shown, as the doors have parsed it: copying a thousand of them would take long."""

    @property
    def id(self) -> str:
        """The tip."""

    @property
    def content(self) -> str | None:
        """Text that the user reads; None if the client did not send it."""

    @property
    def source(self) -> str:
        """Where it comes from."""

    @property
    def features(self) -> TaskFeatures:
        """What is known of its task."""

    @property
    def prompt_version(self) -> str | None:
        """Which prompt version wrote it; None unless the client named it."""


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

    @property
    def state_key(self) -> StateKey:
        """The name of the state that it is made from."""
        return StateKey(self.user_id, self.policy)


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

    def rule(self, policy: str) -> Rule:
        """Return how a policy chooses."""
        return Rule(self.epsilon) if policy == EPSILON_GREEDY else Rule(self.exploration, self.alpha)


def decide(
    connection: Connection, commands: Sequence[DecideCommand], *, parameters: Parameters
) -> list[Answer | OoMlError]:
    """Make one decision a command, in the order given, and write them down; what was decided before stays so."""
    keys = [command.state_key for command in commands]
    current = states.lock(connection, keys, all_or_none=True)
    if keys and not current:
        known, too_old = _made_before(connection, commands)
        states.make(connection, [one.state_key for one in commands if one.key not in known.keys() | too_old])
        current = states.lock(connection, keys)
    known, too_old = _made_before(connection, commands)
    new: dict[DecisionKey, DecideCommand] = {}
    for command in commands:
        if command.key not in known and command.key not in too_old:
            # Of those that share a name the first is made, and answered to the others too.
            new.setdefault(command.key, command)
    if missing := {command.state_key for command in new.values()} - current.keys():
        current |= states.lock_or_create(connection, list(missing))
    made = _decide(current, list(new.values()), parameters)
    if made:
        decisions.insert(connection, made, _counted(current, made))
    known |= {DecisionKey(one.key.user_id, one.decision_id): Answered(one.request_digest, one.answer) for one in made}
    return [DecisionTooOldError() if command.key in too_old else _outcome(known, command) for command in commands]


def _made_before(
    connection: Connection, commands: Sequence[DecideCommand]
) -> tuple[dict[DecisionKey, Answered], set[DecisionKey]]:
    """Return which decisions there are already, and which there may have been: see _too_old."""
    named = [command.key for command in commands if command.request_digest is not None]
    known = decisions.answered(connection, named) if named else {}
    return known, _too_old(connection, [command for command in commands if command.key not in known])


def _outcome(known: Mapping[DecisionKey, Answered], command: DecideCommand) -> Answer | OoMlError:
    decided = known[command.key]
    return Answer(decided.answer) if decided.request_digest == command.request_digest else DecisionExistsError()


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


def _decide(
    current: Mapping[StateKey, PolicyState], commands: Sequence[DecideCommand], parameters: Parameters
) -> list[DecisionRow]:
    """Make the decisions, which don't depend on each other: deciding teaches nothing."""
    rows: dict[int, DecisionRow] = {}
    pulls = {key: count(state.pulls + 1) for key, state in current.items()}
    for policy in DIMENSIONS:
        own = [(place, command) for place, command in enumerate(commands) if command.policy == policy]
        if own:
            rule = parameters.rule(policy)
            X, choices = _choose(current, [command for _, command in own], policy, rule)
            for (place, command), x, choice in zip(own, X, choices, strict=True):
                key = command.state_key
                rows[place] = _row(current[key], next(pulls[key]), command, rule, x, choice)
    return [rows[place] for place in range(len(commands))]


def _choose(
    current: Mapping[StateKey, PolicyState], commands: Sequence[DecideCommand], policy: str, rule: Rule
) -> tuple[NDArray[np.float64], list[Choice]]:
    """Return the features of the chosen tips, one row a command, and the choices."""
    places = {key: place for place, key in enumerate(dict.fromkeys(command.state_key for command in commands))}
    counts = [len(command.candidates) for command in commands]
    X = encode(
        [command.moment for command in commands for _ in command.candidates],
        [candidate.features for command in commands for candidate in command.candidates],
        DIMENSIONS[policy],
    )
    choices = policies.choose(
        rule,
        stack([current[key].model for key in places]),
        [places[command.state_key] for command in commands],
        X,
        counts,
        [command.decision_id.int for command in commands],
    )
    starts = accumulate(counts[:-1], initial=0)
    return X[[start + choice.index for start, choice in zip(starts, choices, strict=True)]], choices


def _counted(current: Mapping[StateKey, PolicyState], made: Sequence[DecisionRow]) -> list[PolicyState]:
    """Return the states of the decisions with these counted, in key order."""
    after: dict[StateKey, PolicyState] = {}
    for one in made:
        state = after.get(one.key) or current[one.key]
        after[one.key] = replace(
            state,
            pulls=one.pull,
            explore_count=state.explore_count + one.exploring,
            last_updated=later(state.last_updated, one.decided_at),
        )
    return [after[key] for key in sorted(after)]


def _row(  # noqa: PLR0913, PLR0917 - what a decision was made from
    state: PolicyState, pull: int, command: DecideCommand, rule: Rule, x: NDArray[np.float64], choice: Choice
) -> DecisionRow:
    chosen = command.candidates[choice.index]
    propensity = _propensity(command, choice)
    return DecisionRow(
        key=state.key,
        decision_id=command.decision_id,
        epoch=state.epoch,
        version=state.version,
        pull=pull,
        decided_at=command.decided_at,
        score=choice.score,
        propensity=propensity,
        exploring=choice.exploring,
        tip_id=chosen.id,
        content=None if chosen.content is None else chosen.content[:_MAX_CONTENT],
        prompt_version=chosen.prompt_version,
        x=x,
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
        exploration=rule.exploration,
        alpha=rule.alpha,
        exploit=choice.exploit,
        explore=choice.explore,
        propensities=choice.propensities,
    )


def _propensity(command: DecideCommand, choice: Choice) -> float:
    """Return the probability with which this tip was to be chosen: clients may offer one twice."""
    chosen = command.candidates[choice.index].id
    same = [place for place, candidate in enumerate(command.candidates) if candidate.id == chosen]
    # The sum may round past one.
    return min(float(sum(choice.propensities[same].tolist())), 1.0)


def _raw(task: TaskFeatures) -> dict[str, Any]:
    return {
        "is_overdue": task.is_overdue,
        "task_age_days": task.task_age_days,
        "priority": task.priority,
    }


def _shown_features(command: DecideCommand, chosen: Candidate, choice: Choice) -> dict[str, Any]:
    shown = {"hour_of_day": command.moment.hour_of_day, **_raw(chosen.features)}
    if command.policy == EPSILON_GREEDY:
        shown |= {"day_of_week": command.moment.day_of_week, "exploring": choice.exploring}
    return shown


def _considered(candidate: Candidate) -> dict[str, Any]:
    considered = {"id": candidate.id, "source": candidate.source, "features": _raw(candidate.features)}
    if candidate.prompt_version is not None:
        considered["prompt_version"] = candidate.prompt_version
    return considered
