"""Readers of news: simulated users of a policy with a category, hashed tags, a cyclic hour and a vote."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Engine

from oo_ml import definitions
from oo_ml.domain.learning import Kind
from oo_ml.domain.policies import Policy
from oo_ml.errors import OoMlError
from oo_ml.services.decisions.decide import Answer, Candidate, DecideCommand, decide
from oo_ml.services.decisions.learn import CorrectCommand, DecisionRewardCommand, RewardCommand, correct, learn
from oo_ml.services.decisions.unit_of_work import UnitOfWork
from oo_ml.services.policies.registry import PublishCommand, publish
from oo_ml.storage.decision_types import DecisionKey
from tests.migrations.rows import uuid7
from tests.sessions import writing

NOON: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
TOPICS: Final = ("news", "sport", "arts")
TAGS: Final = ("short", "long", "video", "local", "new")
NEWS: Final[dict[str, Any]] = {
    "inputs": [
        {"name": "hour", "of": "context", "encoding": "cyclic", "period": 24},
        {"name": "topic", "of": "candidate", "encoding": "category", "values": ["news", "sport"]},
        {"name": "tags", "of": "candidate", "encoding": "hashed", "buckets": 4, "missing": []},
    ],
    "terms": [{"one": True}, {"input": "topic"}, {"input": "tags"}, {"product": ["topic", "hour"], "times": 0.5}],
    "rule": {"alpha": 1.0, "sigma": 0.3, "exploration": 0.02},
}


def define(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - parts of a definition
    """Return the definition of NEWS with other parts."""
    return {**NEWS, **changes}


def publish_policy(db: Engine, name: str, definition: Mapping[str, Any] = NEWS) -> Policy:
    """Publish a policy, and return it compiled."""
    with writing(db) as connection:
        [row] = publish(connection, [PublishCommand(name, "For tests", definition, NOON)])
    assert not isinstance(row, OoMlError), row
    return definitions.compile_policy(name, definitions.parse(definition))


@dataclass
class Readers:
    """Readers of one database, who decide by `policy`, a `pace` after each other."""

    db: Engine
    policy: Policy
    pace: timedelta = timedelta(minutes=1)
    random: Random = field(default_factory=lambda: Random(1))  # noqa: S311 - simulated lives, not secrets
    decisions: dict[UUID, tuple[str, str]] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        """The time of the next decision."""
        return NOON + len(self.decisions) * self.pace

    def decide(self, user_id: str, policy: Policy | None = None, **context: object) -> UUID:
        """Make a decision among five articles."""
        number = len(self.decisions)
        command = DecideCommand(
            user_id,
            policy or self.policy,
            uuid7(NOON, number),
            self.now,
            {"hour": self.random.randrange(24), **context},
            [self._draw_article(place) for place in range(5)],
        )
        with writing(self.db) as connection:
            [answer] = decide(connection, [command])
        assert isinstance(answer, Answer), answer
        self.decisions[command.decision_id] = user_id, answer.content["tip_id"]
        return command.decision_id

    def react(self, decision_id: UUID, reward: float | None = None) -> None:
        """Give a decision a reward."""
        user_id, tip_id = self.decisions[decision_id]
        given = self.random.choice([-0.5, 0.0, 0.5, 1.0]) if reward is None else reward
        with writing(self.db) as connection:
            learn(connection, [DecisionRewardCommand(user_id, decision_id, tip_id, given, NOON)])

    def correct(self, decision_id: UUID, reward: float | None) -> None:
        """Amend or retract the reward of a decision."""
        with writing(self.db) as connection:
            correct(connection, [CorrectCommand(self.decisions[decision_id][0], decision_id, reward, NOON)])

    def assume(self, decision_id: UUID) -> None:
        """Give a decision the default reward."""
        key = DecisionKey(self.decisions[decision_id][0], decision_id)
        with writing(self.db) as connection:
            unit = UnitOfWork.lock(connection, decisions=[key])
            unit.apply(unit.entry_for(unit.decisions[key], 0.0, NOON, kind=Kind.DEFAULT))
            unit.write(connection)

    def teach(self, user_id: str) -> None:
        """Give a reward for features, without a decision."""
        article = self._draw_article(0)
        command = RewardCommand(user_id, self.policy, "elsewhere", 0.5, NOON, {"hour": 7}, article.features)
        with writing(self.db) as connection:
            learn(connection, [command])

    def live(self, user_id: str, decisions: int = 12) -> None:
        """Make decisions with every kind of ledger entry that is about a decision, the last one open."""
        for number in range(decisions):
            made = self.decide(user_id)
            match number % 6:
                case 1:
                    self.react(made)
                    self.correct(made, 0.25)
                case 2:
                    self.react(made)
                    self.correct(made, None)
                    self.correct(made, -1.0)
                case 3:
                    self.assume(made)
                case 4:
                    self.assume(made)
                    self.correct(made, None)
                case _:
                    self.react(made)
        self.decide(user_id)

    def _draw_article(self, place: int) -> Candidate:
        # An unknown topic, an absent list and a list with a repetition are among them.
        features: dict[str, Any] = {"topic": self.random.choice(TOPICS), "words": self.random.randrange(50, 900)}
        if self.random.random() < 0.8:
            features["tags"] = self.random.choices(TAGS, k=self.random.randrange(4))
        return Candidate(f"article {place}", features)
