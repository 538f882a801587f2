"""Random lives of users who learn from each other, compared with sums and beliefs that are computed with loops."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run
from numpy.typing import NDArray
from sqlalchemy import Engine, text

from oo_ml.domain.population import Prior
from oo_ml.services.audit.verify import verify
from oo_ml.services.decisions.reset import reset
from oo_ml.storage import policy_state
from oo_ml.storage.user_ranges import UserRange
from tests.services.policies.readers import NOON, Readers, publish_policy
from tests.services.policies.shared_readers import HALF_LIFE, PACE, SHARED, believe, insert_prior
from tests.sessions import writing

names = st.sampled_from(("ada", "ben"))
values = st.sampled_from((1.0, 0.5, 0.0, -1.0))
places = st.integers(0, 1000)
LIVES: Final = settings(
    stateful_step_count=25,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@dataclass(slots=True, eq=False)
class Lesson:
    """A reward that counts, or a decision that waits for one.

    Attributes:
        reward: None: no reward counts.
        reacted: the user has reacted; a default reward is no reaction.
    """

    user_id: str
    epoch: int
    x: NDArray[np.float64]
    at: datetime
    reward: float | None = None
    reacted: bool = False


class SharedLife(RuleBasedStateMachine):
    """Decisions, rewards and resets of two users, and fits."""

    db: Engine
    number = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).number += 1
        # Each life has a policy of its own, because its priors stay.
        name = f"shared-{self.number}"
        self.readers = Readers(self.db, publish_policy(self.db, name, SHARED), PACE)
        self.prior = Prior.initial(self.readers.policy.features.dimension)
        self.epochs = {f"ada {self.number}": 0, f"ben {self.number}": 0}
        self.lessons: dict[UUID, Lesson] = {}
        self.others: list[Lesson] = []

    @rule(name=names)
    def decide(self, name: str) -> None:
        """Make a decision, and compare it with the one from the belief that loops give."""
        user_id, at = f"{name} {self.number}", self.readers.now
        belief = believe(self.prior, self.find_rewards(user_id), at)
        decision_id = self.readers.decide(user_id)
        with writing(self.db) as connection:
            statement = text("SELECT * FROM oo_ml.feature_history WHERE decision_id = :id AND user_id = :user_id")
            row = connection.execute(statement, {"id": decision_id, "user_id": user_id}).one()
        features = [candidate["features"] for candidate in row.candidates]
        X = self.readers.policy.features.encode([row.context], features, [len(features)]).X
        mean = np.linalg.inv(belief.A) @ belief.b
        of_prior = np.linalg.inv(belief.A) @ np.linalg.solve(
            self.prior.covariance + self.prior.mean_covariance, self.prior.mean
        )
        assert row.exploit == pytest.approx([float(x @ mean) for x in X], rel=1e-8, abs=1e-10)
        assert row.prior_score == pytest.approx(float(row.x @ of_prior), rel=1e-8, abs=1e-10)
        assert (row.prior_version, row.decided_at) == (self.prior.version, at)
        self.lessons[decision_id] = Lesson(user_id, self.epochs[user_id], row.x, at)

    @precondition(lambda self: self.lessons)
    @rule(place=places, value=values)
    def react(self, place: int, value: float) -> None:
        """Give any decision a reward; only the first reaction counts."""
        decision_id, lesson = self.pick(place)
        self.readers.react(decision_id, value)
        if not lesson.reacted:
            lesson.reward, lesson.reacted = value, True

    @precondition(lambda self: self.lessons)
    @rule(place=places, value=st.none() | values)
    def correct(self, place: int, value: float | None) -> None:
        """Amend or retract the reward of any decision."""
        decision_id, lesson = self.pick(place)
        self.readers.correct(decision_id, value)
        if value is not None or lesson.reward is not None:
            lesson.reward, lesson.reacted = value, True

    @precondition(lambda self: any(not one.reacted and one.reward is None for one in self.lessons.values()))
    @rule()
    def assume(self) -> None:
        """Give the first open decision the default reward."""
        decision_id = next(name for name, one in self.lessons.items() if not one.reacted and one.reward is None)
        self.readers.assume(decision_id)
        self.lessons[decision_id].reward = 0.0

    @rule(name=names)
    def teach(self, name: str) -> None:
        """Give a reward without a decision."""
        user_id = f"{name} {self.number}"
        self.readers.teach(user_id)
        with writing(self.db) as connection:
            x = connection.scalars(text("SELECT x FROM oo_ml.reward_ledger ORDER BY position DESC LIMIT 1")).one()
        self.others.append(Lesson(user_id, self.epochs[user_id], x, NOON, 0.5, reacted=True))

    @rule(name=names)
    def reset(self, name: str) -> None:
        """Begin a new epoch, if the user has a state."""
        user_id = f"{name} {self.number}"
        with writing(self.db) as connection:
            known = policy_state.read_states(connection, user_id)
            reset(connection, [user_id])
        self.epochs[user_id] += len(known)

    @rule()
    def fit(self) -> None:
        """Let later decisions start from another version of the prior."""
        self.readers.policy = insert_prior(self.db, self.readers.policy, self.prior.version + 1, self.readers.now)
        assert self.readers.policy.population is not None
        self.prior = self.readers.policy.population.prior

    @invariant()
    def compare(self) -> None:
        """Compare the states with sums over the rewards that count, and verify them."""
        for user_id, epoch in self.epochs.items():
            with writing(self.db) as connection:
                [report] = verify(connection, [UserRange.of(user_id)])
                states = policy_state.read_states(connection, user_id)
            assert report.difference is None
            for state in states.values():
                evidence, d = state.evidence, self.prior.dimension
                # A weight is 1 at NOON here.
                scale = self.readers.policy.weigh(NOON) or 1.0
                A, b, weight, squares = np.zeros((d, d)), np.zeros(d), 0.0, 0.0
                rewards = self.find_rewards(user_id)
                for x, reward, at in rewards:
                    g = 2.0 ** ((at - NOON) / HALF_LIFE)
                    A, b = A + g * np.outer(x, x), b + g * reward * x
                    weight, squares = weight + g, squares + g * reward * reward
                assert (state.epoch, state.reward_count) == (epoch, len(rewards))
                assert pytest.approx(A, abs=1e-10) == evidence.A / scale
                assert evidence.b / scale == pytest.approx(b, abs=1e-10)
                assert evidence.weight is not None
                assert evidence.squares is not None
                sums = evidence.weight / scale, evidence.squares / scale
                assert sums == pytest.approx((weight, squares), abs=1e-10)

    def pick(self, place: int) -> tuple[UUID, Lesson]:
        """Return one of the decisions."""
        return list(self.lessons.items())[place % len(self.lessons)]

    def find_rewards(self, user_id: str) -> list[tuple[NDArray[np.float64], float, datetime]]:
        """Return the rewards that count for a user."""
        return [
            (one.x, one.reward, one.at)
            for one in [*self.lessons.values(), *self.others]
            if one.user_id == user_id and one.epoch == self.epochs[user_id] and one.reward is not None
        ]


def test_shared_lives(db: Engine) -> None:
    """In a few random lives, the same in each run, states and decisions are those of the reference."""

    class LifeHere(SharedLife):
        pass

    LifeHere.db = db
    run(LifeHere, settings=settings(LIVES, max_examples=6))
