"""Simulated users: random calls of every service that a client can use.

The same seed gives the same actions. A reward that is drawn is likelier 1 the better the tip fits its moment, so a test
knows what each tip is worth.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Final
from uuid import UUID

import numpy as np
from sqlalchemy import Engine

from demo.reactions import REACTIONS
from oo_ml.domain.evidence import Evidence
from oo_ml.domain.features import Fields
from oo_ml.domain.learning import Kind
from oo_ml.domain.policies import LINUCB
from oo_ml.files.legacy_state import FileState
from oo_ml.services.decisions.decide import Answer, DecideCommand
from oo_ml.services.decisions.learn import CorrectCommand, DecisionRewardCommand, RewardCommand, correct, learn
from oo_ml.services.decisions.reset import reset
from oo_ml.services.decisions.unit_of_work import UnitOfWork
from oo_ml.services.users.import_state import ImportCommand, import_states
from oo_ml.storage import generations
from oo_ml.storage.generations import GenerationRow, TipRow
from tests.candidates import build_candidate, build_context, build_task
from tests.migrations.rows import uuid7
from tests.policies import DIMENSIONS, Parameters, builtin, decide_by
from tests.sessions import writing

NOON: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
USERS: Final = ("ada", "ben", "zoë")
EXPLORING: Final = Parameters(alpha=0.7, epsilon=0.2, exploration=0.3)
CERTAIN: Final = Parameters(alpha=0.7, epsilon=0.0, exploration=0.0)
_VERSIONS: Final = (None, "v1", "v2-mentor")
# Ids of tips that a model may have written.
_GENERATED: Final = "abcdefgh"


class SimulatedUsers:
    """Users of one database, their decisions by id, and what each candidate of a rewarded decision was worth.

    Args:
        now: the time of the first decision; each later one is made a second later unless the caller says otherwise.
    """

    def __init__(self, db: Engine, seed: int, parameters: Parameters = EXPLORING, now: datetime = NOON) -> None:
        self.db = db
        self.parameters = parameters
        self.now = now
        self.random = Random(seed)  # noqa: S311 - simulated lives, not secrets
        self.decisions: dict[UUID, DecideCommand] = {}
        self.chosen: dict[UUID, str] = {}
        self.worths: list[list[float]] = []
        self._numbers = count(1)

    def decide(
        self,
        user_id: str = "ada",
        policy: str = LINUCB,
        *,
        ids: Sequence[str] | None = None,
        versions: Sequence[str | None] | None = None,
        parameters: Parameters | None = None,
        at: datetime | None = None,
        share: float | None = None,
    ) -> UUID:
        """Make a decision among `ids`, by default one to six tips, and return its id.

        `share` is the share of the users that the traffic gives this policy; None: the client named the policy.
        """
        number = next(self._numbers)
        at = at or self.now + timedelta(seconds=number)
        ids = ids or [f"t{place}" for place in range(self.random.randint(1, 6))]
        moment = build_context(self.random.randrange(24), self.random.randrange(7))
        candidates = [
            build_candidate(tip_id, "s", self.draw_task(), version)
            for tip_id, version in zip(ids, versions or [None] * len(ids), strict=True)
        ]
        command = DecideCommand(
            user_id, builtin(policy), uuid7(self.now, number), at, moment, candidates, policy_probability=share
        )
        with writing(self.db) as connection:
            [answer] = decide_by(parameters or self.parameters, connection, [command])
        assert isinstance(answer, Answer)
        self.decisions[command.decision_id] = command
        self.chosen[command.decision_id] = answer.content["tip_id"]
        return command.decision_id

    def react(self, decision_id: UUID, reward: float | None = None, at: datetime | None = None) -> None:
        """Give a decision a reward, by default 1 with the probability that is its tip's worth, else 0."""
        command, tip_id = self.decisions[decision_id], self.chosen[decision_id]
        worths = [compute_worth(command.context, candidate.features) for candidate in command.candidates]
        self.worths.append(worths)
        if reward is None:
            place = [candidate.id for candidate in command.candidates].index(tip_id)
            reward = float(self.random.random() < worths[place])
        with writing(self.db) as connection:
            learn(connection, [DecisionRewardCommand(command.user_id, decision_id, tip_id, reward, at or self.now)])

    def assume(self, decision_id: UUID, reward: float) -> None:
        """Give a decision the default reward, if it has no reward yet."""
        key = self.decisions[decision_id].key
        with writing(self.db) as connection:
            unit = UnitOfWork.lock(connection, decisions=[key])
            if unit.decisions[key].is_open:
                unit.apply(unit.entry_for(unit.decisions[key], reward, self.now, kind=Kind.DEFAULT))
                unit.write(connection)

    def correct(self, decision_id: UUID, reward: float | None, at: datetime | None = None) -> None:
        """Amend the reward of a decision, or retract it: None."""
        user_id = self.decisions[decision_id].user_id
        with writing(self.db) as connection:
            correct(connection, [CorrectCommand(user_id, decision_id, reward, at or self.now)])

    def reward_features(self, user_id: str, policy: str) -> None:
        """Give a reward for features, without a decision."""
        command = RewardCommand(user_id, builtin(policy), "t0", 0.5, self.now, build_context(9, 2), self.draw_task())
        with writing(self.db) as connection:
            learn(connection, [command])

    def reset(self, user_id: str) -> None:
        """Begin a new epoch."""
        with writing(self.db) as connection:
            reset(connection, [user_id])

    def import_state(self, user_id: str) -> None:
        """Import both states of a user, twice, so that the user has an epoch before the current one."""
        for size in (1, 2):
            commands = []
            for policy, d in DIMENSIONS.items():
                x = np.linspace(-0.7, 0.9, d) * size
                evidence = Evidence(np.eye(d) + np.outer(x, x), 0.3 * x)
                state = FileState(user_id, policy, evidence, size, 0, 1, 0.3, self.now + timedelta(size))
                commands.append(ImportCommand(user_id, state))
            with writing(self.db) as connection:
                import_states(connection, commands, imported_at=self.now)

    def generate(self, user_id: str = "ada") -> None:
        """Store a call of the model, and the tips that it wrote if it succeeded."""
        row = self.draw_generation(user_id)
        tips = [] if row.error else self.random.sample(_GENERATED, 3)
        shared = (row.generation_id, row.prompt_version, row.prompt_probability, row.created_at)
        with writing(self.db) as connection:
            generations.insert_generation(
                connection, row, [TipRow(user_id, tip, *shared, place, "x", None) for place, tip in enumerate(tips)]
            )

    def act(self, steps: int, users: Sequence[str] = USERS) -> None:
        """Do `steps` things at random: every kind of change, in every order, at any time of the last four days."""
        actions: list[Callable[[str], None]] = [
            *3 * [self._decide_at_random],
            *3 * [self._react_at_random],
            self._correct_at_random,
            self._assume_at_random,
            self._reward_at_random,
            self._reset_sometimes,
            self.generate,
        ]
        for _ in range(steps):
            self.random.choice(actions)(self.random.choice(users))

    def draw_task(self) -> Fields:
        """Draw any task."""
        return build_task(self.random.random() < 0.5, self.random.uniform(-5, 40), self.random.randint(1, 4))

    def draw_generation(self, user_id: str) -> GenerationRow:
        """Draw a call of the model, which took up to a minute and up to three attempts, or none."""
        error = self.random.choice([None, "The model's reply is no JSON array"])
        return GenerationRow(
            user_id=user_id,
            generation_id=UUID(int=self.random.getrandbits(128)),
            prompt_version=self.random.choice(["v1", "v2-mentor"]),
            prompt_probability=0.5,
            created_at=self.now - timedelta(days=self.random.randint(0, 3)),
            latency_ms=self.random.choice([0, 1, 2, self.random.randint(3, 60_000)]),
            prompt_tokens=self.random.randint(0, 5000),
            completion_tokens=self.random.randint(0, 500),
            requested=3,
            attempts=self.random.randint(0, 3),
            outcome="ok" if error is None else "invalid_reply",
            model=self.random.choice([None, "big", "small"]),
            error=error,
        )

    def draw_time(self) -> datetime:
        """Draw a time after every decision, or one of a clock that is behind."""
        return self.now + timedelta(seconds=self.random.randint(-400_000, 1000))

    def _decide_at_random(self, user_id: str) -> None:
        # Some tips are offered twice.
        ids = self.random.choices(_GENERATED, k=self.random.randint(1, 6))
        self.decide(
            user_id,
            self.random.choice(list(DIMENSIONS)),
            ids=ids,
            versions=self.random.choices(_VERSIONS, k=len(ids)),
            at=self.now - timedelta(days=self.random.randint(0, 3), seconds=self.random.randint(0, 5000)),
            share=0.5 if len(self.decisions) % 3 == 0 else None,
        )

    def _react_at_random(self, _user_id: str) -> None:
        if self.decisions:
            # To the latest decision, or to any: then it may be a repetition.
            decision_id = list(self.decisions)[-1] if self.random.random() < 0.5 else self._draw_decision()
            self.react(decision_id, self._draw_reward(), self.draw_time())

    def _correct_at_random(self, _user_id: str) -> None:
        if self.decisions:
            self.correct(self._draw_decision(), self.random.choice([None, self._draw_reward()]), self.draw_time())

    def _assume_at_random(self, _user_id: str) -> None:
        if self.decisions:
            self.assume(self._draw_decision(), self.random.choice([0.0, -0.1]))

    def _reward_at_random(self, user_id: str) -> None:
        self.reward_features(user_id, self.random.choice(list(DIMENSIONS)))

    def _reset_sometimes(self, user_id: str) -> None:
        if self.random.random() < 0.2:
            self.reset(user_id)

    def _draw_decision(self) -> UUID:
        return self.random.choice(list(self.decisions))

    def _draw_reward(self) -> float:
        # Few digits, so that PostgreSQL's numeric holds the square exactly.
        return self.random.choice([*(reaction.value for reaction in REACTIONS), round(self.random.uniform(-1, 1), 1)])


def compute_worth(moment: Fields, task: Fields) -> float:
    """Return the probability that a tip about `task` gets the reward 1."""
    x = builtin(LINUCB).features.encode([moment], [task], [1]).X[0]
    return float(0.5 + x @ [0.05, -0.1, 0.2, -0.15, 0.2])
