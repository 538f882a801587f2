"""Batches of random decisions, rewards and corrections; the statements that a batch sends."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from sqlalchemy import Engine, event

from oo_ml.domain.features import Fields
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import OoMlError
from oo_ml.services.decisions.decide import DecideCommand
from oo_ml.services.decisions.learn import (
    CorrectCommand,
    DecisionRewardCommand,
    RewardCommand,
)
from oo_ml.storage.reward_ledger import IdempotencyKey
from tests.candidates import build_candidate, build_context, build_task
from tests.policies import Parameters, builtin, decide_by

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PARAMETERS = Parameters(alpha=1.0, epsilon=0.3)
USERS = ("ada", "ben", "cleo")

score = partial(decide_by, PARAMETERS)


def scores(seed: int, count: int, users: Sequence[str] = USERS) -> list[DecideCommand]:
    """Return decisions of several users by both policies, with each user and some tips several times."""
    rng = random.Random(seed)  # noqa: S311
    return [
        DecideCommand(
            user_id=rng.choice(users),
            policy=builtin(rng.choice((LINUCB, EPSILON_GREEDY))),
            decision_id=UUID(int=int(NOON.timestamp() * 1000) << 80 | rng.getrandbits(80)),
            decided_at=NOON + timedelta(seconds=place),
            context=build_context(rng.randrange(24), rng.randrange(7)),
            candidates=[build_candidate(f"t{tip}", "s", task(rng)) for tip in range(rng.randint(1, 4))],
        )
        for place in range(count)
    ]


def rewards(seed: int, count: int) -> list[RewardCommand]:
    """Return rewards for few tips, so that many go to one, and some to a tip without a decision."""
    rng = random.Random(seed)  # noqa: S311
    return [
        RewardCommand(
            user_id=rng.choice(USERS),
            policy=builtin(rng.choice((LINUCB, EPSILON_GREEDY))),
            tip_id=f"t{rng.randrange(5)}",
            reward=rng.uniform(-1, 1),
            received_at=NOON + timedelta(hours=1, seconds=place),
            context=build_context(rng.randrange(24), rng.randrange(7)),
            features=task(rng),
        )
        for place in range(count)
    ]


def reactions_by_id(seed: int, decisions: Sequence[DecideCommand], count: int) -> list[DecisionRewardCommand]:
    """Return rewards for decisions by id, some of them twice, some for another tip or an unknown decision."""
    rng = random.Random(seed)  # noqa: S311
    return [
        DecisionRewardCommand(
            user_id=decision.user_id,
            decision_id=decision.decision_id if rng.random() < 0.9 else UUID(int=place),
            tip_id=rng.choice(decision.candidates).id,
            reward=rng.uniform(-1, 1),
            received_at=NOON + timedelta(hours=2, seconds=place),
            idempotency_key=some_key(rng),
        )
        for place, decision in enumerate(rng.choices(decisions, k=count))
    ]


def corrections(seed: int, decisions: Sequence[DecideCommand], count: int) -> list[CorrectCommand]:
    """Return corrections and retractions of few decisions, so that each is corrected several times."""
    rng = random.Random(seed)  # noqa: S311
    return [
        CorrectCommand(
            decision.user_id,
            decision.decision_id,
            rng.choice([None, rng.uniform(-1, 1), 0.0]),
            NOON + timedelta(hours=3, seconds=place),
        )
        for place, decision in enumerate(rng.choices(decisions[:20], k=count))
    ]


def some_key(rng: random.Random) -> IdempotencyKey | None:
    """Return, for three of ten calls, one of a few keys with one of two digests."""
    return IdempotencyKey(f"key {rng.randrange(8)}", bytes([rng.randrange(2)] * 32)) if rng.random() < 0.3 else None


def task(rng: random.Random) -> Fields:
    """Return a random task."""
    return build_task(rng.random() < 0.5, rng.uniform(-5, 40), rng.randint(1, 4))


def make_comparable(outcome: object) -> object:
    """Return an outcome in a form that can be compared: of a refusal, its code."""
    return outcome.code if isinstance(outcome, OoMlError) else outcome


def reaction(command: DecideCommand) -> DecisionRewardCommand:
    """Return a reward for a decision that had one candidate."""
    return DecisionRewardCommand(command.user_id, command.decision_id, command.candidates[0].id, 1.0, NOON)


@contextmanager
def collect_statements(db: Engine) -> Iterator[list[str]]:
    """Collect the statements that the engine sends."""
    statements: list[str] = []

    def collect(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(db, "before_cursor_execute", collect)
    yield statements
    event.remove(db, "before_cursor_execute", collect)
