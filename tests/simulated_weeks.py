"""Weeks of decisions and reactions, in the order of their time, through the services on a real database.

The same looks give the same rows to the last bit: no clock is read, and only `react` draws.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from sqlalchemy import Engine

from demo.reactions import PendingRewards, Reaction
from oo_ml.domain.features import Fields
from oo_ml.services.decisions.decide import Answer, Candidate, DecideCommand
from oo_ml.services.decisions.learn import DecisionRewardCommand, Rewarded, learn
from tests.candidates import build_context
from tests.migrations.rows import uuid7
from tests.policies import Parameters, builtin, decide_by
from tests.sessions import writing


@dataclass(frozen=True, slots=True)
class Look:
    """A user who looks for a tip at some time.

    Attributes:
        react: draws the reaction to a tip and the time until it comes; None: there is no reaction.
        share: share of the users that the traffic gives this policy; None: the client named it.
    """

    user_id: str
    policy: str
    at: datetime
    decision_id: UUID
    candidates: Sequence[Candidate]
    react: Callable[[Candidate], tuple[Reaction, timedelta] | None]
    share: float | None = None

    @property
    def moment(self) -> Fields:
        """The moment as the service is told it; Sunday is 0."""
        return build_context(self.at.hour, self.at.isoweekday() % 7)


def simulate(db: Engine, rounds: Iterable[Sequence[Look]], parameters: Parameters) -> None:
    """Make the decisions of each round in one batch, and learn from each reward before its user's next decision."""
    pending = PendingRewards()
    last: dict[str, datetime] = {}
    for looks in rounds:
        now = {look.user_id: look.at for look in looks}
        _learn(db, pending.take(now))
        for reward in _decide(db, looks, parameters):
            pending.add(reward)
        last |= now
    end = max(last.values()).replace(hour=0, minute=0, second=0) + timedelta(days=1)
    _learn(db, pending.take(dict.fromkeys(last, end)))


def draw_uuid7(at: datetime, random: Random) -> UUID:
    """Draw a UUIDv7 of a time."""
    return uuid7(at, random.getrandbits(12) << 62 | random.getrandbits(62))


def _decide(db: Engine, looks: Sequence[Look], parameters: Parameters) -> list[DecisionRewardCommand]:
    """Make a decision for each look, and return the rewards that will come."""
    commands = [
        DecideCommand(
            look.user_id,
            builtin(look.policy),
            look.decision_id,
            look.at,
            look.moment,
            look.candidates,
            policy_probability=look.share,
        )
        for look in looks
    ]
    with writing(db) as connection:
        answers = decide_by(parameters, connection, commands)
    rewards = []
    for look, answer in zip(looks, answers, strict=True):
        assert isinstance(answer, Answer)
        tip = next(candidate for candidate in look.candidates if candidate.id == answer.content["tip_id"])
        if reacted := look.react(tip):
            reaction, delay = reacted
            rewards.append(
                DecisionRewardCommand(look.user_id, look.decision_id, tip.id, reaction.value, look.at + delay)
            )
    return rewards


def _learn(db: Engine, rewards: Sequence[DecisionRewardCommand]) -> None:
    with writing(db) as connection:
        outcomes = learn(connection, rewards)
    assert all(isinstance(outcome, Rewarded) and outcome.applied for outcome in outcomes)
