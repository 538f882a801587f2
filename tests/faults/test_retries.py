"""Transactions that PostgreSQL aborts for the sake of others: run again, they leave what they would have left anyway.

A scenario of every kind of call, disturbed in every place, is compared with the same scenario undisturbed: every row
of every table, and every outcome.
"""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any, Final, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from oo_ml.errors import DatabaseTimeoutError, DatabaseUnavailableError
from oo_ml.execution import retry
from oo_ml.execution.retry import MAX_TRIES
from oo_ml.services.decisions.learn import Rewarded, correct, learn
from oo_ml.services.decisions.reset import reset
from oo_ml.services.upkeep.default_rewards import GiveCommand, LookCommand, give, look
from oo_ml.storage.ledger import IdempotencyKey
from oo_ml.storage.upkeep import Position
from tests.faults.aborts import Step, aborted, commits_lost, prepare
from tests.rows import assert_folded, everything
from tests.services.decisions.test_batches import (
    NOON,
    corrections,
    reaction,
    reactions_by_id,
    rewards,
    score,
    scores,
    told,
)
from tests.waiting import PATIENCE

CODES = pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
HOUR: Final = timedelta(hours=1)


class Call(NamedTuple):
    """A batch of commands for a service."""

    service: Callable[..., list[Any]]
    commands: Sequence[Any]


def scenario() -> list[Call]:
    """Every kind of call, in batches of one and of many, with new people and with known ones."""
    early = [replace(command, request_digest=bytes(32)) for command in scores(1, 24)]
    early[0] = replace(early[0], candidates=early[0].candidates[:1])
    by_key = [
        replace(command, idempotency_key=IdempotencyKey(f"a {n}", bytes(32))) for n, command in enumerate(rewards(2, 6))
    ]
    mixed = [*rewards(3, 6), *reactions_by_id(4, early, 12), *by_key[:3], replace(rewards(5, 1)[0], user_id="dora")]
    random.Random(6).shuffle(mixed)  # noqa: S311
    return [
        Call(score, early[:12] + early[:3]),
        Call(score, early[6:]),
        Call(learn, [reaction(early[0])]),
        Call(learn, rewards(7, 6)),
        Call(learn, by_key),
        Call(learn, reactions_by_id(8, early, 12)),
        Call(learn, mixed),
        Call(correct, corrections(9, early, 12)),
        Call(look, [LookCommand(NOON + 4 * HOUR, HOUR, after=Position(NOON - HOUR / 2, UUID(int=0)))]),
        Call(give, [GiveCommand([one.key for one in early if one.user_id == "ada"], -0.25, NOON + 4 * HOUR)]),
        Call(correct, corrections(10, early, 8)),
        Call(reset, ["ada"]),
        Call(learn, reactions_by_id(11, early, 12)),
        Call(correct, corrections(12, early, 8)),
        Call(score, scores(13, 6)),
    ]


SCENARIO: Final = scenario()
# Those whose every command has a name: decisions, a reward for one, rewards with keys, rewards for many.
NAMED: Final = [0, 2, 4, 5]


class Left(NamedTuple):
    """What calls were told and every row that they left."""

    outcomes: list[list[object]]
    rows: list[Any]


@pytest.fixture
def undisturbed(db: Engine) -> Left:
    """What the scenario leaves; then the tables are empty again."""
    prepare(db)
    outcomes = [run(db, call) for call in SCENARIO]
    left = Left(outcomes, everything(db))
    assert {row["kind"] for row in left.rows if "kind" in row} == {"reward", "amend", "retract", "default"}
    assert sum(outcome.applied for call in outcomes for outcome in call if isinstance(outcome, Rewarded)) > 40
    assert_folded(db)
    empty(db)
    return left


def run(db: Engine, call: Call) -> list[object]:
    """Make a call as the service's workers do."""
    return [told(outcome) for outcome in retry.run(db, *call, time.monotonic() + PATIENCE)]


def at(place: int, times: int = MAX_TRIES) -> Callable[[Step], bool]:
    """The same step of so many tries of a call."""
    return lambda step: step.of_try == place and step.tries <= times


def empty(db: Engine) -> None:
    """Forget everybody."""
    with db.begin() as connection:
        for table in ("policy_state", "feature_history", "reward_ledger"):
            connection.execute(text(f"DELETE FROM oo_ml.{table}"))  # noqa: S608
        connection.execute(text("UPDATE oo_ml.upkeep SET done_until = NULL, ran_at = NULL"))


@CODES
@pytest.mark.parametrize("times", [1, pytest.param(MAX_TRIES - 1, marks=pytest.mark.slow)])
def test_aborts_at_any_step_change_nothing(db: Engine, undisturbed: Left, sqlstate: str, times: int) -> None:
    """Every call of the scenario is aborted once, or three times, at its first statement; then at its second; ...

    COMMIT is the last step of each.
    """
    for place in count(1):
        outcomes = []
        tries = 0
        for call in SCENARIO:
            with aborted(db, sqlstate, at(place, times)) as step:
                outcomes.append(run(db, call))
            tries += step.tries
        assert (outcomes, everything(db)) == undisturbed, place
        empty(db)
        if tries == len(SCENARIO):
            break
    # No call has so many.
    assert place > 8


@pytest.mark.slow
@CODES
def test_four_tries_are_the_limit(db: Engine, undisturbed: Left, sqlstate: str) -> None:
    """Aborted at the same step of each try, whichever step that is, a call is refused, and nothing of it is left."""
    outcomes = []
    for call in SCENARIO:
        before = everything(db)
        for place in count(1):
            with aborted(db, sqlstate, at(place)) as step:
                outcome = None
                with suppress(DatabaseTimeoutError):
                    outcome = run(db, call)
            if outcome is not None:
                break
            assert step.tries == MAX_TRIES == 4
            assert everything(db) == before
        # It has no such step.
        assert (step.tries, step.of_try) == (1, place - 1)
        outcomes.append(outcome)
    assert (outcomes, everything(db)) == undisturbed


@CODES
@pytest.mark.parametrize("period", [2, 3, 5, 7, 17])
def test_aborts_again_and_again_change_nothing(db: Engine, undisturbed: Left, sqlstate: str, period: int) -> None:
    """At every second step, every third, ...: each call is carried through, or refused, and carried through in peace.

    At every second step all of them are refused; at every seventeenth none is.
    """
    outcomes = []
    refused = 0
    for call in SCENARIO:
        before = everything(db)
        try:
            with aborted(db, sqlstate, lambda step: step.of_all % period == 0):
                outcomes.append(run(db, call))
        except DatabaseTimeoutError:
            refused += 1
            assert everything(db) == before
            outcomes.append(run(db, call))
    assert (outcomes, everything(db)) == undisturbed
    assert refused == {2: len(SCENARIO), 17: 0}.get(period, refused)


def test_a_lost_commit_is_not_run_again(db: Engine, undisturbed: Left) -> None:
    """Every call of the scenario goes through and nobody hears of it: each is refused after one try, and there once."""
    for call in SCENARIO:
        with pytest.raises(DatabaseUnavailableError), commits_lost(db), aborted(db, "", lambda _: False) as step:
            run(db, call)
        assert step.tries == 1
    assert everything(db) == undisturbed.rows


@pytest.mark.parametrize("place", NAMED)
def test_a_lost_commit_is_found_by_its_client(db: Engine, undisturbed: Left, place: int) -> None:
    """Whoever calls again, by the same names, is told what became of it, and changes nothing."""
    for call in SCENARIO[:place]:
        run(db, call)
    with commits_lost(db), pytest.raises(DatabaseUnavailableError):
        run(db, SCENARIO[place])
    rows = everything(db)
    again = run(db, SCENARIO[place])
    assert everything(db) == rows
    assert again == [repeated(outcome) for outcome in undisturbed.outcomes[place]]


def repeated(outcome: object) -> object:
    """What is said of the same once more."""
    return replace(outcome, applied=False) if isinstance(outcome, Rewarded) else outcome
