"""Thousands of calls of all kinds through two lanes, while PostgreSQL aborts, locks rows and loses connections."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine, event, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import UnavailableError
from oo_ml.execution.lanes import Lanes
from oo_ml.services.audit.verify import verify
from oo_ml.services.decisions.decide import Answer, DecideCommand
from oo_ml.services.decisions.learn import (
    CorrectCommand,
    DecisionRewardCommand,
    RewardCommand,
    Rewarded,
    correct,
    learn,
)
from oo_ml.services.decisions.reset import reset
from oo_ml.services.walk_users import walk_all
from oo_ml.storage import policy_state
from oo_ml.storage.policy_state import StateKey
from tests.candidates import build_candidate, build_context, build_task
from tests.conftest import make_settings
from tests.execution.notes import running
from tests.faults import aborts
from tests.faults.aborts import abort_steps
from tests.migrations.rows import uuid7
from tests.policies import FRESH, Parameters, builtin, decide_by
from tests.rows import assert_folded
from tests.sessions import open_session, writing

USERS: Final = [f"u{number}" for number in range(20)]
# These users are never reset, so their counters cover all of their calls.
KEPT: Final = USERS[::2]
CLIENTS: Final = 50
CALLS: Final = 40
MOMENT: Final = build_context(9, 2)
TASK: Final = build_task(is_overdue=True, task_age_days=3.3, priority=4)

score = partial(decide_by, Parameters(alpha=1.0, epsilon=0.3, exploration=0.3))


@dataclass(slots=True)
class Known:
    """Expectation for a decision or a reward: the number of its ledger entries, and the rewards that may count."""

    user_id: str
    fewest: int = 0
    most: int = 0
    rewards: set[float | None] = field(default_factory=lambda: {None})


@dataclass(slots=True)
class Tally:
    """The outcomes of all clients.

    Attributes:
        decisions: the acknowledged decisions.
        nameless: rewards for no decision, by tip.
        doubtful: decisions that were not acknowledged, which may be stored or not; with their users.
        unanswered: number of calls of any kind without an outcome.
    """

    decisions: dict[UUID, Known] = field(default_factory=dict)
    nameless: dict[str, Known] = field(default_factory=dict)
    doubtful: dict[UUID, str] = field(default_factory=dict)
    unanswered: int = 0


class Client:
    """A client that makes one call after the other, and rewards only its own decisions."""

    def __init__(self, lanes: Lanes, tally: Tally, seed: int) -> None:
        self.lanes = lanes
        self.tally = tally
        self.rng = random.Random(seed)  # noqa: S311
        self.names = count(seed * 10_000)
        self.own: list[UUID] = []
        self.tips: dict[UUID, str] = {}

    async def make_all_calls(self) -> None:
        """Make all calls."""
        for _ in range(CALLS):
            kinds = [self.decide, self.react, self.correct, self.teach, self.reset, self.hurry]
            [kind] = self.rng.choices(kinds, [45, 25, 15, 10, 2, 5])
            try:
                await kind()
            except UnavailableError:
                self.tally.unanswered += 1

    async def decide(self) -> None:
        """Ask for a decision of a random user, with a random policy."""
        now = datetime.now(UTC)
        name = uuid7(now, next(self.names))
        policy = self.rng.choice([LINUCB, EPSILON_GREEDY])
        candidates = [build_candidate(f"{name} {tip}", "s", TASK) for tip in range(self.rng.randint(1, 4))]
        user_id = self.rng.choice(USERS)
        self.tally.doubtful[name] = user_id
        command = DecideCommand(
            user_id, builtin(policy), name, now, MOMENT, candidates, self.rng.choice([None, bytes(32)])
        )
        answer: Answer = await self.lanes.run(score, user_id, command)
        del self.tally.doubtful[name]
        self.tally.decisions[name] = Known(user_id)
        self.own.append(name)
        self.tips[name] = answer.content["tip_id"]

    async def react(self) -> None:
        """Reward a decision; the first reward counts."""
        if self.own:
            name = self.rng.choice(self.own)
            known = self.tally.decisions[name]
            value = self.rng.randint(-64, 64) / 64
            command = DecisionRewardCommand(known.user_id, name, self.tips[name], value, datetime.now(UTC))
            await self._change(known, learn, command, value)

    async def correct(self) -> None:
        """Amend or retract a reward."""
        if self.own:
            name = self.rng.choice(self.own)
            known = self.tally.decisions[name]
            value = self.rng.choice([None, self.rng.randint(-64, 64) / 64])
            await self._change(known, correct, CorrectCommand(known.user_id, name, value, datetime.now(UTC)), value)

    async def teach(self) -> None:
        """Send a reward for no decision."""
        known = Known(self.rng.choice(USERS))
        tip_id = f"free {next(self.names)}"
        self.tally.nameless[tip_id] = known
        policy = self.rng.choice([LINUCB, EPSILON_GREEDY])
        command = RewardCommand(known.user_id, builtin(policy), tip_id, 0.5, datetime.now(UTC), MOMENT, TASK)
        await self._change(known, learn, command, 0.5)

    async def hurry(self) -> None:
        """Decide, reward and retract without waiting in between: each command sees the effect of the earlier ones."""
        now = datetime.now(UTC)
        name = uuid7(now, next(self.names))
        known = Known(self.rng.choice(USERS))
        tip = build_candidate(f"{name} 0", "s", TASK)
        self.tally.decisions[name] = known
        self.tally.doubtful[name] = known.user_id
        decided, *changed = await asyncio.gather(
            self.lanes.run(
                score, known.user_id, DecideCommand(known.user_id, builtin(LINUCB), name, now, MOMENT, [tip])
            ),
            self._change(known, learn, DecisionRewardCommand(known.user_id, name, tip.id, 0.25, now), 0.25),
            self._change(known, correct, CorrectCommand(known.user_id, name, None, now), None),
            return_exceptions=True,
        )
        if errors := [told for told in (decided, *changed) if isinstance(told, Exception)]:
            # Only a fault explains an error. The rows that it left are not checked.
            assert any(isinstance(error, UnavailableError) for error in errors), errors
            del self.tally.decisions[name]
            self.tally.unanswered += 1
        else:
            del self.tally.doubtful[name]
            assert (known.fewest, known.most, known.rewards) == (2, 2, {None})

    async def reset(self) -> None:
        """Reset a user."""
        user_id = self.rng.choice([user for user in USERS if user not in KEPT])
        await self.lanes.run(reset, user_id, user_id)

    async def _change(self, known: Known, service: Any, command: Any, value: float | None) -> None:  # noqa: ANN401
        before = known.rewards
        known.most += 1
        known.rewards = before | {value}
        told: Rewarded = await self.lanes.run(service, known.user_id, command)
        known.most -= not told.applied
        known.fewest += told.applied
        known.rewards = {told.reward}
        assert told.applied or told.reward in before


@contextmanager
def backends(own: Engine) -> Iterator[list[int]]:
    """Yield a list that collects the server processes of an engine's connections."""
    seen: list[int] = []

    def note_backend(connection: psycopg.Connection[Any], _: object) -> None:
        seen.append(connection.info.backend_pid)

    event.listen(own, "connect", note_backend)
    yield seen
    event.remove(own, "connect", note_backend)


@contextmanager
def lose_commits(own: Engine) -> Iterator[None]:
    """Lose the connection after every 25th COMMIT that went through, before its answer is read."""
    commit = own.dialect.do_commit
    numbers = count(1)

    def lose(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's, for the driver's
        commit(connection)
        if next(numbers) % 25 == 0:
            connection.driver_connection.close()
            raise psycopg.OperationalError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(own.dialect, "do_commit", lose)
        yield


async def disturb(db: Engine, seen: list[int]) -> None:
    """Lock the row of one user after the other, and now and then end the lanes' connections."""
    rng = random.Random(0)  # noqa: S311
    for turn in count():
        with open_session(db) as holder:
            policy_state.lock_or_create_states(holder, {StateKey(rng.choice(USERS), LINUCB): FRESH[LINUCB]})
            await asyncio.sleep(0.07)
            holder.commit()
            if turn % 4 == 3:
                holder.execute(text("SELECT pg_terminate_backend(pid) FROM unnest(:seen) AS s (pid)"), {"seen": seen})


async def storm(lanes: Lanes, db: Engine, seen: list[int]) -> Tally:
    """Run all clients at once, disturbed."""
    tally = Tally()
    disturbing = asyncio.create_task(disturb(db, seen))
    await asyncio.gather(*(Client(lanes, tally, seed).make_all_calls() for seed in range(1, CLIENTS + 1)))
    disturbing.cancel()
    await asyncio.wait([disturbing])
    return tally


def test_storm(database_url: str, db: Engine) -> None:
    """Every acknowledged decision, reward and correction is stored exactly once; an unanswered one at most once."""
    aborts.prepare(db)
    with (
        running(database_url, lanes=2, batch=32, lane_lock_timeout=0.05) as (lanes, own),
        backends(own) as seen,
        abort_steps(own, "40001", lambda step: step.of_all % 29 == 0),
        lose_commits(own),
    ):
        tally = asyncio.run(storm(lanes, db, seen))
    assert 0 < tally.unanswered < CLIENTS * CALLS / 4

    walk = walk_all(db, make_settings(), verify)
    assert [report.difference for report in walk.parts if report.difference] == []
    assert_folded(db)
    with writing(db) as connection:
        history = connection.execute(text("SELECT decision_id, user_id, reward FROM oo_ml.feature_history")).all()
        ledger = connection.execute(text("SELECT decision_id, tip_id FROM oo_ml.reward_ledger")).all()
        pulls: dict[str, int] = dict(
            connection.execute(text("SELECT user_id, sum(pulls)::int FROM oo_ml.policy_state GROUP BY 1")).all()
        )
    made = {name: (user_id, reward) for name, user_id, reward in history}
    assert len(made) == len(history)
    assert tally.decisions.keys() <= made.keys() <= tally.decisions.keys() | tally.doubtful.keys()
    owners = Counter(user_id for user_id, _ in made.values())
    assert {user: pulls.get(user, 0) for user in KEPT} == {user: owners[user] for user in KEPT}
    changes = Counter(name for name, _ in ledger if name is not None)
    taught = Counter(tip_id for name, tip_id in ledger if name is None)
    for name, known in tally.decisions.items():
        assert made[name][0] == known.user_id
        assert made[name][1] in known.rewards
        assert known.fewest <= changes[name] <= known.most
    for tip_id, known in tally.nameless.items():
        assert known.fewest <= taught[tip_id] <= known.most
