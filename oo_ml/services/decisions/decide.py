"""Deciding: choose a candidate for a user, and store the decision."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import accumulate, count
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain import policies
from oo_ml.domain.features import Fields
from oo_ml.domain.identifiers import time_of
from oo_ml.domain.policies import Policy, PolicyChoice
from oo_ml.domain.ridge import score_part
from oo_ml.errors import DecisionExistsError, DecisionTooOldError, OoMlError, RetiredPolicyError, UnexpectedError
from oo_ml.storage import upkeep
from oo_ml.storage.decision_types import DecisionKey, DecisionRow, StoredAnswer
from oo_ml.storage.feature_history import insert_decisions, read_answers
from oo_ml.storage.policy_state import PolicyState, StateKey, keep_later, lock_or_create_states
from oo_ml.storage.postgres.sessions import Reading, Writing

logger = logging.getLogger(__name__)

_RECENT: Final = timedelta(days=1)
# Only so many characters of the chosen tip's text are stored: enough to recognise it.
_MAX_CONTENT: Final = 2000


# Numbers of candidates by input.
Unknown = Mapping[str, int]


class Candidate(NamedTuple):
    """A tip that may be chosen.

    Attributes:
        id: id of the tip.
        features: raw fields, as the client sent them; policy.features.find_bad_field has accepted them.
        source: origin of the tip, as the client names it.
        content: text for the user; None if the client did not send it.
        prompt_version: the prompt version that wrote it; None unless the client named it.
    """

    id: str
    features: Fields
    source: str | None = None
    content: str | None = None
    prompt_version: str | None = None


# Without slots, so that its names are made once: each is asked for several times.
@dataclass(frozen=True)
class DecideCommand:
    """Choose one of `candidates`, at least one, for a user.

    Attributes:
        context: raw fields of the decision; policy.features.find_bad_field has accepted them.
        request_digest: SHA-256 of the request if the client named the decision; None if the id is new.
        policy_probability: share of the users that the traffic gives this policy; None: the client named it.
    """

    user_id: str
    policy: Policy
    decision_id: UUID
    decided_at: datetime
    context: Fields
    candidates: Sequence[Candidate]
    request_digest: bytes | None = None
    policy_probability: float | None = None

    @cached_property
    def key(self) -> DecisionKey:
        """Name of the decision."""
        return DecisionKey(self.user_id, self.decision_id)

    @cached_property
    def state_key(self) -> StateKey:
        """Name of the state that it is made from."""
        return StateKey(self.user_id, self.policy.name)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to the client.

    Attributes:
        content: the same for every request for the decision.
        explored: True if this command made the decision at random, False if it chose; None if it made none.
        unknown: number of candidates with an unknown category, by input; the first decision of each policy in a batch
            has the numbers of all of them.
    """

    content: dict[str, Any]
    explored: bool | None = None
    unknown: Unknown = field(default_factory=dict, compare=False)


def decide(connection: Writing, commands: Sequence[DecideCommand]) -> list[Answer | OoMlError]:
    """Make and store one decision a command, in the order given; a decision that was made before stays unchanged.

    A user whose model can't be computed with is an UnexpectedError, and disturbs no other.
    If several commands name the same decision, the first one makes it, and the others get its answer too.
    """
    known: dict[DecisionKey, StoredAnswer | OoMlError] = {}

    def needed() -> set[StateKey]:
        """Return the states of new decisions: a repeated or refused call creates no row."""
        known.update(_read_known(connection, commands))
        return {command.state_key for command in commands if command.key not in known}

    fresh = {command.state_key: command.policy.fresh() for command in commands}
    states = lock_or_create_states(connection, fresh, needed=needed)
    known.update(_read_known(connection, commands))
    new: dict[DecisionKey, DecideCommand] = {}
    for command in commands:
        if command.key not in known:
            new.setdefault(command.key, command)
    decided, unknown = _decide(states, list(new.values()))
    made: dict[DecisionKey, DecisionRow] = {}
    for key, one in zip(new, decided, strict=True):
        if isinstance(one, OoMlError):
            known[key] = one
        else:
            made[key] = one
            known[key] = StoredAnswer(one.request_digest, one.answer)
    if made:
        insert_decisions(connection, list(made.values()), _count(states, made.values()))
    # The first command of a decision has made it.
    return [_outcome(known[command.key], command, made.pop(command.key, None), unknown) for command in commands]


def _read_known(connection: Reading, commands: Sequence[DecideCommand]) -> dict[DecisionKey, StoredAnswer | OoMlError]:
    """Return the answers of decisions that were made before, and the refusals of those that may have been."""
    named = [command for command in commands if command.request_digest is not None]
    answers = read_answers(connection, [command.key for command in named]) if named else {}
    too_old = _find_too_old(connection, [command for command in named if command.key not in answers])
    return {
        **{one.key: _refuse_retired(one.policy) for one in commands if one.policy.is_retired},
        **answers,
        **dict.fromkeys(too_old, DecisionTooOldError()),
    }


def _refuse_retired(policy: Policy) -> RetiredPolicyError:
    return RetiredPolicyError(
        f"Retired policy: {policy.name}; it learns from late rewards, and makes no more decisions"
    )


def _outcome(
    known: StoredAnswer | OoMlError, command: DecideCommand, made: DecisionRow | None, unknown: dict[str, Unknown]
) -> Answer | OoMlError:
    if isinstance(known, OoMlError):
        return known
    if known.request_digest != command.request_digest:
        return DecisionExistsError()
    if made is None:
        return Answer(known.answer)
    return Answer(known.answer, made.exploring, unknown.pop(command.policy.name, {}))


def _find_too_old(connection: Reading, commands: Sequence[DecideCommand]) -> set[DecisionKey]:
    """Return the decisions of months that retention has detached: they may have been made there before."""
    # Rare: clients name a decision when they make it.
    old = [command for command in commands if time_of(command.decision_id) < command.decided_at - _RECENT]
    since = upkeep.read_history_from(connection) if old else None
    return {command.key for command in old if since is not None and time_of(command.decision_id) < since}


def _decide(
    states: Mapping[StateKey, PolicyState], commands: Sequence[DecideCommand]
) -> tuple[list[DecisionRow | OoMlError], dict[str, Unknown]]:
    """Make the decisions. None depends on another: a decision teaches nothing.

    The second result has the numbers of unknown categories by policy.
    """
    rows: dict[int, DecisionRow | OoMlError] = {}
    unknown: dict[str, Unknown] = {}
    pulls = {key: count(state.pulls + 1) for key, state in states.items()}
    # In the order of the commands within each policy.
    for policy in {command.policy.name: command.policy for command in commands}.values():
        own = [(place, command) for place, command in enumerate(commands) if command.policy.name == policy.name]
        chosen, unknown[policy.name] = _choose_or_refuse(states, [command for _, command in own], policy)
        for (place, command), one in zip(own, chosen, strict=True):
            key = command.state_key
            rows[place] = one if isinstance(one, OoMlError) else _row(states[key], next(pulls[key]), command, one)
    return [rows[place] for place in range(len(commands))], unknown


class _Chosen(NamedTuple):
    """A choice, the features of the chosen tip, shape (d,), and the part of theta.x that the prior gave."""

    choice: PolicyChoice
    x: NDArray[np.float64]
    prior_score: float | None


def _choose_or_refuse(
    states: Mapping[StateKey, PolicyState], commands: Sequence[DecideCommand], policy: Policy
) -> tuple[list[_Chosen | OoMlError], Unknown]:
    """Return what `_choose` returns; an error for each command of a user whose model has no inverse."""
    try:
        chosen, unknown = _choose(states, commands, policy)
    except np.linalg.LinAlgError:
        if len(commands) == 1:
            [command] = commands
            logger.error(  # noqa: TRY400 - the trace would name a line of NumPy
                "decision %s by %s: the model of its user has no inverse; a reset of the user helps",
                command.decision_id,
                policy.name,
            )
            return [UnexpectedError()], {}
        parts = [_choose_or_refuse(states, [command], policy) for command in commands]
        return [one for [one], _ in parts], sum((Counter(counts) for _, counts in parts), Counter())
    return list(chosen), unknown


def _choose(
    states: Mapping[StateKey, PolicyState], commands: Sequence[DecideCommand], policy: Policy
) -> tuple[list[_Chosen], Unknown]:
    """Return the choice of each command, and the unknown categories."""
    counts = [len(command.candidates) for command in commands]
    X, unknown = policy.features.encode(
        [command.context for command in commands],
        [candidate.features for command in commands for candidate in command.candidates],
        counts,
    )
    # Evidence fades with time, so each decision has a belief of its own; a user who learns alone has one for all.
    names = [(one.state_key, one.decided_at if policy.population else None) for one in commands]
    of_beliefs = dict(zip(names, commands, strict=True))
    beliefs = policy.believe(
        [states[one.state_key].evidence for one in of_beliefs.values()], [one.decided_at for one in of_beliefs.values()]
    )
    places = {name: place for place, name in enumerate(of_beliefs)}
    which = [places[name] for name in names]
    seeds = [command.decision_id.int for command in commands]
    choices = policies.choose(policy.rule, beliefs, which, X, counts, seeds)
    starts = accumulate(counts[:-1], initial=0)
    x = X[[start + choice.index for start, choice in zip(starts, choices, strict=True)]]
    prior_scores: list[float | None] = [None] * len(commands)
    if policy.population is not None:
        prior_scores = score_part(beliefs, policy.population.prior.belief.b, which, x).tolist()
    return list(map(_Chosen, choices, x, prior_scores)), unknown


def _count(states: Mapping[StateKey, PolicyState], rows: Iterable[DecisionRow]) -> list[PolicyState]:
    """Return the states of the decisions with their counters increased, in key order."""
    after: dict[StateKey, PolicyState] = {}
    for row in rows:
        state = after.get(row.key) or states[row.key]
        after[row.key] = replace(
            state,
            pulls=row.pull,
            explore_count=state.explore_count + row.exploring,
            last_updated=keep_later(state.last_updated, row.decided_at),
        )
    return [after[key] for key in sorted(after)]


def _row(state: PolicyState, pull: int, command: DecideCommand, made: _Chosen) -> DecisionRow:
    choice, policy = made.choice, command.policy
    chosen = command.candidates[choice.index]
    propensity = _propensity(command, choice)
    return DecisionRow(
        key=state.key,
        policy_probability=command.policy_probability,
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
        x=made.x,
        context=command.context,
        features=chosen.features,
        candidates=[_stored_candidate(candidate) for candidate in command.candidates],
        answer={
            "tip_id": chosen.id,
            "score": choice.score,
            "policy": policy.name,
            "decision_id": str(command.decision_id),
            "propensity": propensity,
        },
        request_digest=command.request_digest,
        exploration=policy.rule.exploration,
        alpha=policy.rule.alpha,
        prior_version=None if policy.population is None else policy.population.prior.version,
        prior_score=made.prior_score,
        weight=policy.weigh(command.decided_at),
        exploit=choice.exploit,
        explore=choice.explore,
        propensities=choice.propensities,
    )


def _propensity(command: DecideCommand, choice: PolicyChoice) -> float:
    """Return the probability with which the tip was chosen: the sum over its places, as a client may send it twice."""
    chosen = command.candidates[choice.index].id
    same = [place for place, candidate in enumerate(command.candidates) if candidate.id == chosen]
    # The sum may round past one.
    return min(float(sum(choice.propensities[same].tolist())), 1.0)


def _stored_candidate(candidate: Candidate) -> dict[str, Any]:
    stored: dict[str, Any] = {"id": candidate.id, "features": candidate.features}
    if candidate.source is not None:
        stored["source"] = candidate.source
    if candidate.prompt_version is not None:
        stored["prompt_version"] = candidate.prompt_version
    return stored
