"""People who decide, react, change their minds and start afresh, at random."""

from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from sqlalchemy import Engine, text

from oo_ml.domain.features import Moment, Task
from oo_ml.domain.learning import Kind
from oo_ml.domain.policies import DIMENSIONS
from oo_ml.services.decisions.decide import DecideCommand, Parameters, decide
from oo_ml.services.decisions.learn import CorrectCommand, DecisionRewardCommand, correct, learn
from oo_ml.services.decisions.reset import reset
from oo_ml.services.decisions.unit_of_work import UnitOfWork
from oo_ml.storage import generations
from oo_ml.storage.decision_rows import DecisionKey
from oo_ml.storage.generations import GenerationRow
from tests.candidates import Candidate

NOW = datetime.now(UTC)
PARAMETERS = Parameters(alpha=1.0, epsilon=0.4, exploration=0.3)


class People:
    """Some people who do whatever can be done, at random."""

    def __init__(self, db: Engine, seed: int) -> None:
        self.db, self.made = db, list[tuple[str, UUID]]()
        self.random = Random(seed)  # noqa: S311 - lives, not secrets

    def live(self, moments: int) -> None:
        """Do so many things."""
        for _ in range(moments):
            self.random.choice(
                [
                    self.decide,
                    self.decide,
                    self.react,
                    self.react,
                    self.correct,
                    self.assume,
                    self.reset,
                    self.generate,
                ]
            )()

    def decide(self) -> None:
        """Decide among two to four tips, some days ago."""
        user_id = self.random.choice(["ada", "ben", "zoë"])
        versions = self.random.choices([None, "v1", "v2-mentor"], k=self.random.randint(2, 4))
        decision_id = UUID(int=self.random.getrandbits(128))
        at = NOW - timedelta(days=self.random.randint(0, 3), seconds=self.random.randint(0, 5000))
        tips = [
            Candidate(f"t{n}", "s", Task(is_overdue=True, task_age_days=1.5, priority=1 + n % 4), version)
            for n, version in enumerate(versions)
        ]
        policy = self.random.choice(list(DIMENSIONS))
        with self.db.begin() as connection:
            decide(
                connection, [DecideCommand(user_id, policy, decision_id, at, Moment(9, 2), tips)], parameters=PARAMETERS
            )
        self.made.append((user_id, decision_id))

    def react(self) -> None:
        """React to a decision, or say it again."""
        if self.made:
            user_id, decision_id = self.random.choice(self.made)
            reward = self.random.choice([1.0, 0.5, 0.0, -0.5, -1.0, 0.1, -0.7])
            with self.db.begin() as connection:
                learn(
                    connection,
                    [DecisionRewardCommand(user_id, decision_id, self.tip(user_id, decision_id), reward, self.later())],
                )

    def correct(self) -> None:
        """Amend or retract."""
        if self.made:
            user_id, decision_id = self.random.choice(self.made)
            reward = self.random.choice([1.0, 0.0, -0.7, None])
            with self.db.begin() as connection:
                correct(connection, [CorrectCommand(user_id, decision_id, reward, self.later())])

    def assume(self) -> None:
        """Give a default reward."""
        if self.made:
            key = DecisionKey(*self.random.choice(self.made))
            with self.db.begin() as connection:
                unit = UnitOfWork.lock(connection, decisions=[key])
                if unit.decisions[key].is_open:
                    unit.apply(unit.entry_for(unit.decisions[key], -0.1, self.later(), kind=Kind.DEFAULT))
                    unit.write(connection)

    def reset(self) -> None:
        """Start afresh, now and then."""
        if self.random.random() < 0.2:
            with self.db.begin() as connection:
                reset(connection, [self.random.choice(["ada", "ben"])])

    def generate(self) -> None:
        """Have tips written, or try to, some days ago."""
        with self.db.begin() as connection:
            generations.insert_generation(connection, self.generation(self.random.choice(["ada", "ben", "zoë"])), [])

    def generation(self, user_id: str) -> GenerationRow:
        """A call of the model that took anything from no time to a minute, at the first attempt or a later one."""
        error = self.random.choice([None, "The model's reply is no JSON array"])
        return GenerationRow(
            user_id=user_id,
            generation_id=UUID(int=self.random.getrandbits(128)),
            prompt_version=self.random.choice(["v1", "v2-mentor"]),
            prompt_probability=0.5,
            created_at=NOW - timedelta(days=self.random.randint(0, 3)),
            latency_ms=self.random.choice([0, 1, 2, self.random.randint(3, 60_000)]),
            prompt_tokens=self.random.randint(0, 5000),
            completion_tokens=self.random.randint(0, 500),
            requested=3,
            attempts=self.random.randint(0, 3),
            outcome="ok" if error is None else "invalid_reply",
            model=None,
            error=error,
        )

    def later(self) -> datetime:
        """A moment after every decision, or on a clock that is behind."""
        return NOW + timedelta(seconds=self.random.randint(-400_000, 1000))

    def tip(self, user_id: str, decision_id: UUID) -> str:
        """The tip of a decision."""
        with self.db.begin() as connection:
            return str(
                connection.scalar(
                    text("SELECT tip_id FROM oo_ml.feature_history WHERE user_id = :u AND decision_id = :d"),
                    {"u": user_id, "d": decision_id},
                )
            )
