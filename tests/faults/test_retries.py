"""Transactions that PostgreSQL aborts: a retry leaves what an undisturbed transaction would have left.

A scenario with every kind of call is aborted at every step. Every row of every table and every outcome must equal
those of the same scenario without aborts.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any, Final, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text

from oo_ml.errors import DatabaseTimeoutError, DatabaseUnavailableError
from oo_ml.execution import retry
from oo_ml.execution.retry import MAX_TRIES
from oo_ml.services.decisions.decide import Answer
from oo_ml.services.decisions.learn import Rewarded, correct, learn
from oo_ml.services.decisions.reset import reset
from oo_ml.services.upkeep.default_rewards import GiveCommand, LookCommand, give, look
from oo_ml.storage.reward_ledger import IdempotencyKey
from oo_ml.storage.upkeep import Position
from tests.faults.aborts import Step, abort_steps, lose_commits, prepare
from tests.rows import assert_folded, everything
from tests.services.decisions.batches import (
    NOON,
    corrections,
    make_comparable,
    reaction,
    reactions_by_id,
    rewards,
    score,
    scores,
)
from tests.sessions import writing
from tests.waiting import PATIENCE

CODES = pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
HOUR: Final = timedelta(hours=1)


class Call(NamedTuple):
    """A batch of commands for a service."""

    service: Callable[..., list[Any]]
    commands: Sequence[Any]


def scenario() -> list[Call]:
    """Return every kind of call, in batches of one and of many, with new users and with known ones."""
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
# Calls whose commands all carry an id: decisions, a reward for one, rewards with keys, rewards for many.
NAMED: Final = [0, 2, 4, 5]


class Left(NamedTuple):
    """Outcomes of calls, and every row that they left."""

    outcomes: list[list[object]]
    rows: list[Any]


@pytest.fixture
def undisturbed_result(db: Engine) -> Left:
    """Run the scenario and return its result; empty the tables again."""
    prepare(db)
    outcomes = [run(db, call) for call in SCENARIO]
    left = Left(outcomes, everything(db))
    assert {row["kind"] for row in left.rows if "kind" in row} == {"reward", "amend", "retract", "default"}
    assert sum(outcome.applied for call in outcomes for outcome in call if isinstance(outcome, Rewarded)) > 40
    assert_folded(db)
    empty_tables(db)
    return left


def run(db: Engine, call: Call) -> list[object]:
    """Run a call as a pool does; return its outcomes, comparable."""
    return [make_comparable(outcome) for outcome in retry.run(db, *call, time.monotonic() + PATIENCE)]


def is_step(place: int, times: int = MAX_TRIES) -> Callable[[Step], bool]:
    """Return whether a step is number `place` of one of the first `times` tries."""
    return lambda step: step.of_try == place and step.tries <= times


def empty_tables(db: Engine) -> None:
    """Empty the tables."""
    with writing(db) as connection:
        for table in ("policy_state", "feature_history", "reward_ledger"):
            connection.execute(text(f"DELETE FROM oo_ml.{table}"))  # noqa: S608
        connection.execute(text("UPDATE oo_ml.upkeep SET done_until = NULL, ran_at = NULL"))


@CODES
@pytest.mark.parametrize("times", [1, pytest.param(MAX_TRIES - 1, marks=pytest.mark.slow)])
def test_abort_at_every_step(db: Engine, undisturbed_result: Left, sqlstate: str, times: int) -> None:
    """Each call is aborted, once or three times, at its first step, then at its second, and so on up to COMMIT.

    The rows and the outcomes are those of the undisturbed scenario.
    """
    for place in count(1):
        outcomes = []
        tries = 0
        for call in SCENARIO:
            with abort_steps(db, sqlstate, is_step(place, times)) as step:
                outcomes.append(run(db, call))
            tries += step.tries
        assert (outcomes, everything(db)) == undisturbed_result, place
        empty_tables(db)
        if tries == len(SCENARIO):
            break
    # There were several steps to abort.
    assert place > 8


@pytest.mark.slow
@CODES
def test_four_tries_are_the_limit(db: Engine, undisturbed_result: Left, sqlstate: str) -> None:
    """A call that is aborted at the same step in all four tries is refused and leaves nothing, for each step."""
    outcomes = []
    for call in SCENARIO:
        before = everything(db)
        for place in count(1):
            with abort_steps(db, sqlstate, is_step(place)) as step:
                outcome = None
                with suppress(DatabaseTimeoutError):
                    outcome = run(db, call)
            if outcome is not None:
                break
            assert step.tries == MAX_TRIES == 4
            assert everything(db) == before
        # The call has no such step.
        assert (step.tries, step.of_try) == (1, place - 1)
        outcomes.append(outcome)
    assert (outcomes, everything(db)) == undisturbed_result


def test_no_retry_after_a_cut(db: Engine) -> None:
    """A transaction that is aborted when its time is over is not retried."""
    tries = []
    cut = threading.Event()

    def abort(connection: Connection, commands: Sequence[str]) -> list[None]:
        tries.append(commands)
        cut.set()
        connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'aborted' USING ERRCODE = '40001'; END $$"))
        raise AssertionError("the transaction is aborted")

    with pytest.raises(DatabaseTimeoutError):
        retry.run(db, abort, ["ada"], time.monotonic() + PATIENCE, cut)
    assert tries == [["ada"]]


@CODES
@pytest.mark.parametrize("period", [2, 3, 5, 7, 17])
def test_periodic_aborts(db: Engine, undisturbed_result: Left, sqlstate: str, period: int) -> None:
    """With an abort at every n-th step each call succeeds, or is refused without effect and succeeds undisturbed.

    At every second step all of them are refused; at every seventeenth none is.
    """
    outcomes = []
    refused = 0
    for call in SCENARIO:
        before = everything(db)
        try:
            with abort_steps(db, sqlstate, lambda step: step.of_all % period == 0):
                outcomes.append(run(db, call))
        except DatabaseTimeoutError:
            refused += 1
            assert everything(db) == before
            outcomes.append(run(db, call))
    assert (outcomes, everything(db)) == undisturbed_result
    assert refused == {2: len(SCENARIO), 17: 0}.get(period, refused)


def test_lost_commit_is_not_retried(db: Engine, undisturbed_result: Left) -> None:
    """A call whose COMMIT goes through without an answer is refused after one try, and its effect is there once."""
    for call in SCENARIO:
        with pytest.raises(DatabaseUnavailableError), lose_commits(db), abort_steps(db, "", lambda _: False) as step:
            run(db, call)
        assert step.tries == 1
    assert everything(db) == undisturbed_result.rows


@pytest.mark.parametrize("place", NAMED)
def test_client_retries_after_a_lost_commit(db: Engine, undisturbed_result: Left, place: int) -> None:
    """A client that repeats a call with the same ids gets the stored outcome and changes nothing."""
    for call in SCENARIO[:place]:
        run(db, call)
    with lose_commits(db), pytest.raises(DatabaseUnavailableError):
        run(db, SCENARIO[place])
    rows = everything(db)
    again = run(db, SCENARIO[place])
    assert everything(db) == rows
    assert again == [send_again(outcome) for outcome in undisturbed_result.outcomes[place]]


def send_again(outcome: object) -> object:
    """Return the outcome of the same command, sent again."""
    if isinstance(outcome, Answer):
        # It is no new decision, so nothing says whether it was drawn at random.
        return replace(outcome, explored=None)
    return replace(outcome, applied=False) if isinstance(outcome, Rewarded) else outcome
