"""People who are shown tips and react by a rule of their own, through the services themselves."""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final
from uuid import UUID

import numpy as np
from sqlalchemy import Engine

from oo_ml.domain.features import Moment, Task, TaskFeatures, encode
from oo_ml.domain.learning import Kind
from oo_ml.domain.policies import DIMENSIONS, EPSILON_GREEDY, LINUCB
from oo_ml.domain.ridge import Ridge
from oo_ml.files.legacy_state import FileState
from oo_ml.services.decisions.decide import Answer, DecideCommand, Parameters, decide
from oo_ml.services.decisions.learn import CorrectCommand, DecisionRewardCommand, RewardCommand, correct, learn
from oo_ml.services.decisions.reset import reset
from oo_ml.services.decisions.unit_of_work import UnitOfWork
from oo_ml.services.users.import_state import ImportCommand, import_states
from oo_ml.storage.decision_rows import DecisionKey
from tests.candidates import Candidate

NOON: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
EXPLORING: Final = Parameters(alpha=0.7, epsilon=0.2, exploration=0.3)
CERTAIN: Final = Parameters(alpha=0.7, epsilon=0.0, exploration=0.0)


class World:
    """People who are shown tips, and react by a rule of their own: what a tip earns on average is known."""

    def __init__(self, db: Engine, seed: int, parameters: Parameters = EXPLORING) -> None:
        self.db = db
        self.parameters = parameters
        self.rng = random.Random(seed)  # noqa: S311
        self.numbers = count(1)
        self.made: dict[UUID, tuple[DecideCommand, str]] = {}
        self.worth: list[list[float]] = []

    def show(
        self,
        user_id: str = "ada",
        policy: str = LINUCB,
        *,
        ids: Sequence[str] | None = None,
        versions: Sequence[str | None] | None = None,
        parameters: Parameters | None = None,
        at: datetime | None = None,
    ) -> UUID:
        """Make a decision; return its id. Without `ids` it is among one to six tips."""
        rng, number = self.rng, next(self.numbers)
        ids = ids or [f"t{place}" for place in range(rng.randint(1, 6))]
        written = versions or [None] * len(ids)
        command = DecideCommand(
            user_id,
            policy,
            UUID(int=int(NOON.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | number),
            at or NOON + timedelta(seconds=number),
            Moment(rng.randrange(24), rng.randrange(7)),
            [Candidate(one, "s", any_task(rng), version) for one, version in zip(ids, written, strict=True)],
        )
        with self.db.begin() as connection:
            [answer] = decide(connection, [command], parameters=parameters or self.parameters)
        assert isinstance(answer, Answer)
        self.made[command.decision_id] = command, answer.content["tip_id"]
        return command.decision_id

    def react(self, decision_id: UUID, reward: float | None = None) -> None:
        """Give a decision a reward; by default by chance, the likelier the more its tip is worth."""
        command, tip_id = self.made[decision_id]
        values = [worth(command.moment, candidate.features) for candidate in command.candidates]
        own = [candidate.id for candidate in command.candidates].index(tip_id)
        self.worth.append(values)
        if reward is None:
            reward = float(self.rng.random() < values[own])
        with self.db.begin() as connection:
            learn(connection, [DecisionRewardCommand(command.user_id, decision_id, tip_id, reward, NOON)])

    def assume(self, decision_id: UUID, reward: float) -> None:
        """Give it the default reward."""
        key = DecisionKey(self.made[decision_id][0].user_id, decision_id)
        with self.db.begin() as connection:
            unit = UnitOfWork.lock(connection, decisions=[key])
            unit.apply(unit.entry_for(unit.decisions[key], reward, NOON, kind=Kind.DEFAULT))
            unit.write(connection)

    def correct(self, decision_id: UUID, reward: float | None) -> None:
        """Set another reward, or take it back."""
        user_id = self.made[decision_id][0].user_id
        with self.db.begin() as connection:
            correct(connection, [CorrectCommand(user_id, decision_id, reward, NOON)])

    def live(self, steps: int, users: Iterable[str] = ("ada", "ben", "Ödön", "zoe")) -> None:
        """Let people go through everything that a ledger can tell of, both policies and tips offered twice included."""
        rng, who, seen = self.rng, list(users), list[UUID]()
        for _ in range(steps):
            user_id, policy = rng.choice(who), rng.choice((LINUCB, EPSILON_GREEDY))
            what = rng.random()
            if what < 0.7 or not seen:
                ids = rng.choices("abcd", k=rng.randint(1, 6)) if rng.random() < 0.3 else None
                seen.append(self.show(user_id, policy, ids=ids))
                reacts = rng.random()
                if reacts < 0.6:
                    self.react(seen[-1], rng.uniform(-1, 1))
                elif reacts < 0.8:
                    self.assume(seen[-1], rng.choice((0.0, -0.1)))
            elif what < 0.8:
                # Of some epoch or other.
                self.correct(rng.choice(seen), rng.choice((None, rng.uniform(-1, 1))))
            elif what < 0.95:
                with self.db.begin() as connection:
                    command = RewardCommand(user_id, policy, "t0", 0.5, NOON, Moment(9, 2), any_task(rng))
                    learn(connection, [command])
            else:
                with self.db.begin() as connection:
                    reset(connection, [user_id])


def any_task(rng: random.Random) -> Task:
    """Any task."""
    return Task(rng.random() < 0.5, rng.uniform(-5, 40), rng.randint(1, 4))


def worth(moment: Moment, task: TaskFeatures) -> float:
    """How likely a tip is to be liked."""
    x = encode([moment], [task], 5)[0]
    return float(0.5 + x @ [0.05, -0.1, 0.2, -0.15, 0.2])


def bring_in(db: Engine, user_id: str) -> None:
    """Import both states of a person, twice, so that they begin in an epoch of their own."""
    for size in (1, 2):
        commands = []
        for policy, d in DIMENSIONS.items():
            x = np.linspace(-0.7, 0.9, d) * size
            state = FileState(
                user_id, policy, Ridge(np.eye(d) + np.outer(x, x), 0.3 * x), size, 0, 1, 0.3, NOON + timedelta(size)
            )
            commands.append(ImportCommand(user_id, state))
        with db.begin() as connection:
            import_states(connection, commands, imported_at=NOON)
