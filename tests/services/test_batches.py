"""A batch of commands does what the same commands do one by one, in a number of statements that does not grow."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, event, text

from oo_ml.domain.features import Moment, Task
from oo_ml.domain.policies import DIMENSIONS, EPSILON_GREEDY, LINUCB
from oo_ml.domain.ridge import Ridge, observe
from oo_ml.services.reset import reset
from oo_ml.services.reward import RewardCommand, learn
from oo_ml.services.score import Candidate, DecideCommand, Parameters, decide
from oo_ml.storage import states
from tests.gates import scalar

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PARAMETERS = Parameters(alpha=1.0, epsilon=0.3)
USERS = ("ada", "ben", "cleo")

score = partial(decide, parameters=PARAMETERS)


def scores(seed: int, count: int, users: Sequence[str] = USERS) -> list[DecideCommand]:
    """Decisions of several users by both policies, each user and some tips several times."""
    rng = random.Random(seed)  # noqa: S311
    return [
        DecideCommand(
            user_id=rng.choice(users),
            policy=rng.choice((LINUCB, EPSILON_GREEDY)),
            decision_id=UUID(int=rng.getrandbits(128)),
            decided_at=NOON + timedelta(seconds=place),
            moment=Moment(rng.randrange(24), rng.randrange(7)),
            candidates=[Candidate(f"t{tip}", "s", task(rng)) for tip in range(rng.randint(1, 4))],
        )
        for place in range(count)
    ]


def rewards(seed: int, count: int) -> list[RewardCommand]:
    """Reactions to few tips, so that many go to one, and some to a tip that nobody was shown."""
    rng = random.Random(seed)  # noqa: S311
    return [
        RewardCommand(
            user_id=rng.choice(USERS),
            policy=rng.choice((LINUCB, EPSILON_GREEDY)),
            tip_id=f"t{rng.randrange(5)}",
            reward=rng.uniform(-1, 1),
            received_at=NOON + timedelta(hours=1, seconds=place),
            moment=Moment(rng.randrange(24), rng.randrange(7)),
            task=task(rng),
        )
        for place in range(count)
    ]


def task(rng: random.Random) -> Task:
    """Any task."""
    return Task(rng.random() < 0.5, rng.uniform(-5, 40), rng.randint(1, 4))


def everything(db: Engine) -> list[Any]:
    """Every row of states, history and ledger, in an order of its own; arrays as their bytes."""
    tables = {
        "policy_state": "user_id, policy",
        "feature_history": "position",
        "reward_ledger": "user_id, policy, epoch, version",
    }
    with db.begin() as connection:
        rows = [
            dict(row) | {"position": None}
            for table, order in tables.items()
            for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY {order}")).mappings()  # noqa: S608
        ]
    return [
        {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in row.items()}
        for row in rows
    ]


def test_a_batch_is_the_same_as_one_by_one(db: Engine) -> None:
    """The same rows, to the last bit, and the same outcomes in the same order."""
    early, reactions, late = scores(1, 60), rewards(2, 80), scores(3, 40)
    with db.begin() as connection:
        batched = [decide_answers(connection, early), learn(connection, reactions), decide_answers(connection, late)]
    in_a_batch = everything(db)
    with db.begin() as connection:
        connection.execute(text("TRUNCATE policy_state, feature_history, reward_ledger"))
        one_by_one = [
            [answer for command in early for answer in decide_answers(connection, [command])],
            [applied for command in reactions for applied in learn(connection, [command])],
            [answer for command in late for answer in decide_answers(connection, [command])],
        ]
    assert batched == one_by_one
    assert in_a_batch == everything(db)
    assert sum(applied.decision_id is not None for applied in batched[1]) > 10


def decide_answers(connection: Connection, commands: Sequence[DecideCommand]) -> list[Any]:
    """Decide, and return what the clients would be told."""
    return [decision.answer for decision in score(connection, commands)]


def test_the_state_is_the_fold_of_the_ledger(db: Engine) -> None:
    """Bit for bit, after rewards of two epochs: A and b from the identity and zero, the counters from nothing."""
    with db.begin() as connection:
        score(connection, scores(1, 30))
        learn(connection, rewards(2, 50))
        reset(connection, ["ada"])
        learn(connection, rewards(3, 50))
    with db.begin() as connection:
        for user in USERS:
            for policy, state in states.read(connection, user).items():
                ledger = connection.execute(
                    text("""
                        SELECT version, reward, x FROM reward_ledger
                        WHERE user_id = :user AND policy = :policy AND epoch = :epoch ORDER BY version
                    """),
                    {"user": user, "policy": policy, "epoch": state.epoch},
                ).all()
                model, total = Ridge.fresh(DIMENSIONS[policy]), 0.0
                for _, reward, x in ledger:
                    model, total = observe(model, x, reward), total + reward
                assert [row.version for row in ledger] == list(range(1, state.version + 1))
                assert (state.reward_count, state.cumulative_reward) == (len(ledger), total)
                assert state.model.A.tobytes() == model.A.tobytes()
                assert state.model.b.tobytes() == model.b.tobytes()


@pytest.mark.parametrize("size", [1, 10, 300])
def test_the_number_of_statements_does_not_grow(db: Engine, size: int) -> None:
    """Known users: a decision locks, saves and writes history; a reward finds its decision and writes the ledger."""
    with db.begin() as connection:
        score(connection, scores(1, 100))
    with db.begin() as connection, counted(db) as statements:
        score(connection, scores(2, size))
        assert [statement.split()[0] for statement in statements] == ["SELECT", "UPDATE", "INSERT"]
        statements.clear()
        learn(connection, rewards(3, size))
        assert [statement.split()[0] for statement in statements] == ["SELECT", "UPDATE", "UPDATE", "INSERT"]


@contextmanager
def counted(db: Engine) -> Iterator[list[str]]:
    """Collect the statements that the engine sends."""
    statements: list[str] = []

    def collect(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(db, "before_cursor_execute", collect)
    yield statements
    event.remove(db, "before_cursor_execute", collect)


def test_an_empty_batch_does_nothing(db: Engine) -> None:
    """It is no error either."""
    with db.begin() as connection:
        assert score(connection, []) == []
        assert learn(connection, []) == []
        assert reset(connection, []) == []
    assert scalar(db, "SELECT count(*) FROM policy_state") == 0
