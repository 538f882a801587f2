"""Decisions that wait for a reward: how tests make them, and run the task that gives default rewards."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from oo_ml.domain.policies import LINUCB
from oo_ml.services.database import single_worker
from oo_ml.services.decisions.decide import DecideCommand
from oo_ml.services.decisions.learn import DecisionRewardCommand, learn
from oo_ml.services.upkeep import default_rewards
from oo_ml.services.upkeep.default_rewards import Defaults, give_default_rewards
from tests.candidates import build_candidate, build_context, build_task
from tests.conftest import make_settings
from tests.gates import scalar
from tests.migrations.rows import uuid7
from tests.policies import Parameters, builtin, decide_by
from tests.sessions import writing

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
NOW = datetime.now(UTC)
WAIT = 2 * HOUR


@dataclass(frozen=True, slots=True)
class Made:
    """A decision that was made."""

    user_id: str
    decision_id: UUID


class Decider:
    """Source of decisions, each with its own id."""

    def __init__(self, db: Engine) -> None:
        self._db = db
        self._count = 0

    def decide(self, ago: timedelta, user_id: str = "ada", policy: str = LINUCB) -> Made:
        """Make one decision."""
        [made] = self.decide_many([ago], [user_id], policy)
        return made

    def decide_many(self, ago: Sequence[timedelta], user_ids: Sequence[str], policy: str = LINUCB) -> list[Made]:
        """Make decisions, in one transaction."""
        commands = [self._command(NOW - before, user, policy) for before, user in zip(ago, user_ids, strict=True)]
        with writing(self._db) as connection:
            decide_by(Parameters(alpha=1.0, epsilon=0.0), connection, commands)
        return [Made(command.user_id, command.decision_id) for command in commands]

    def _command(self, moment: datetime, user_id: str, policy: str) -> DecideCommand:
        self._count += 1
        candidates = [build_candidate("t1", "todoist", build_task(is_overdue=False, task_age_days=0, priority=4))]
        return DecideCommand(
            user_id, builtin(policy), uuid7(moment, self._count), moment, build_context(9, 2), candidates
        )


def react(db: Engine, made: Made, reward: float = 1.0) -> None:
    """React to a decision, as a user does."""
    with writing(db) as connection:
        learn(connection, [DecisionRewardCommand(made.user_id, made.decision_id, "t1", reward, NOW)])


def give(
    url: str,
    *,
    now: datetime = NOW,
    wait: timedelta = WAIT,
    reward: float = -0.25,
    limit: int = default_rewards.LIMIT,
    **limits: float,
) -> Defaults:
    """Give default rewards, as upkeep does."""
    settings = make_settings(reward_wait=wait.total_seconds(), default_reward=reward, **limits)
    with single_worker(settings, url) as worker:
        return asyncio.run(give_default_rewards(worker, settings, now, limit=limit))


def read_rewards(db: Engine) -> dict[UUID, tuple[float | None, str | None]]:
    """Return the reward of each decision, and its kind."""
    with writing(db) as connection:
        rows = connection.execute(text("SELECT decision_id, reward, reward_kind FROM oo_ml.feature_history"))
        return {row.decision_id: (row.reward, row.reward_kind) for row in rows}


def read_done_until(db: Engine) -> Any:  # noqa: ANN401 - a time, or none
    """Return the stored time of the task."""
    return scalar(db, "SELECT done_until FROM oo_ml.upkeep WHERE task = 'default-rewards'")


@contextmanager
def hold_task(db: Engine) -> Iterator[None]:
    """Hold the row of the task, as another process does."""
    with writing(db) as connection:
        connection.execute(text("SELECT FROM oo_ml.upkeep WHERE task = 'default-rewards' FOR UPDATE"))
        yield
