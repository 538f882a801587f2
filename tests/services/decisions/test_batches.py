"""Batches: the same effect as their commands one by one, in a fixed number of statements."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.evidence import observe
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.services.decisions.decide import DecideCommand
from oo_ml.services.decisions.learn import (
    Rewarded,
    correct,
    learn,
)
from oo_ml.services.decisions.reset import reset
from oo_ml.storage import policy_state
from tests.candidates import build_candidate, build_context, build_task
from tests.gates import scalar
from tests.policies import FRESH, Parameters, builtin, decide_by
from tests.rows import everything
from tests.services import scenario
from tests.services.decisions.batches import (
    NOON,
    USERS,
    collect_statements,
    corrections,
    make_comparable,
    reaction,
    reactions_by_id,
    rewards,
    score,
    scores,
)
from tests.sessions import writing


def test_batch_equals_single_calls(db: Engine) -> None:
    """A batch leaves the same rows, to the last bit, and gives the same outcomes as its calls one by one."""
    early, late = scores(1, 60), scores(3, 40)
    named = [replace(command, request_digest=bytes(32)) for command in early]
    again = [replace(command, request_digest=bytes([n % 2] * 32)) for n, command in enumerate(named)] + named[:10]
    reactions = [*rewards(2, 80), *reactions_by_id(4, early, 120)]
    random.Random(5).shuffle(reactions)  # noqa: S311
    run: list[tuple[Callable[..., list[Any]], Sequence[Any]]] = [
        (score, named + named[:5]),
        (learn, reactions),
        (score, again),
        (correct, corrections(6, early, 60)),
        (reset, ["ada", "ada"]),
        (learn, reactions_by_id(7, early, 60)),
        (score, late),
        (correct, corrections(8, early, 60)),
    ]
    with writing(db) as connection:
        batched = [list(map(make_comparable, service(connection, commands))) for service, commands in run]
    in_a_batch = everything(db)
    with writing(db) as connection:
        for table in ("policy_state", "feature_history", "reward_ledger"):
            connection.execute(text(f"DELETE FROM oo_ml.{table}"))  # noqa: S608
        one_by_one = [
            [make_comparable(outcome) for command in commands for outcome in service(connection, [command])]
            for service, commands in run
        ]
    assert batched == one_by_one
    assert in_a_batch == everything(db)
    said = set(map(str, batched[1] + batched[2]))
    assert {"unknown_decision", "other_tip", "idempotency_key_reused", "decision_exists"} <= said
    assert sum(outcome.applied for outcome in batched[1] if isinstance(outcome, Rewarded)) > 60
    assert len({row["kind"] for row in in_a_batch if "kind" in row}) == 3


def test_pull_numbers(db: Engine) -> None:
    """Decisions are numbered 1, 2, 3, ... in the order in which they were made; after an import from its pulls on."""
    scenario.create_ada_and_ben(db)
    for seed in (1, 2):
        with writing(db) as connection:
            score(connection, scores(seed, 60))
    with writing(db) as connection:
        found = connection.execute(
            text("""
                SELECT s.user_id, s.pulls, array_agg(h.pull ORDER BY h.position)
                FROM oo_ml.policy_state AS s JOIN oo_ml.feature_history AS h USING (user_id, policy, epoch)
                GROUP BY s.user_id, s.policy
            """)
        ).all()
    assert len(found) == 6
    imported = 4  # ben's, by linucb-v1
    for user_id, pulls, numbers in found:
        assert numbers in [list(range(first, pulls + 1)) for first in ({1, 1 + imported} if user_id == "ben" else {1})]
    assert 1 + imported in [numbers[0] for _, _, numbers in found]


def test_state_is_fold_of_ledger(db: Engine) -> None:
    """After rewards of two epochs, A and b and the counters are the fold of the entries, bit for bit."""
    with writing(db) as connection:
        score(connection, scores(1, 30))
        learn(connection, rewards(2, 50))
        reset(connection, ["ada"])
        learn(connection, rewards(3, 50))
    with writing(db) as connection:
        for user in USERS:
            for policy, state in policy_state.read_states(connection, user).items():
                ledger = connection.execute(
                    text("""
                        SELECT version, reward, x FROM oo_ml.reward_ledger
                        WHERE user_id = :user AND policy = :policy AND epoch = :epoch ORDER BY version
                    """),
                    {"user": user, "policy": policy, "epoch": state.epoch},
                ).all()
                evidence, total = FRESH[policy], 0.0
                for _, reward, x in ledger:
                    evidence, total = observe(evidence, x, reward), total + reward
                assert [row.version for row in ledger] == list(range(1, state.version + 1))
                assert (state.reward_count, state.cumulative_reward) == (len(ledger), total)
                assert state.evidence.A.tobytes() == evidence.A.tobytes()
                assert state.evidence.b.tobytes() == evidence.b.tobytes()


@pytest.mark.parametrize("size", [1, 10, 300])
def test_statement_budget(db: Engine, size: int) -> None:
    """For known users a decision takes two statements and a reward three, whatever the size of the batch."""
    with writing(db) as connection:
        score(connection, scores(1, 100))
    with writing(db) as connection, collect_statements(db) as statements:
        score(connection, scores(2, size))
        assert [statement.split()[0] for statement in statements] == ["SELECT", "WITH"]
        statements.clear()
        learn(connection, rewards(3, size))
        assert [statement.split()[0] for statement in statements] == ["SELECT", "SELECT", "WITH"]


@pytest.mark.parametrize("size", [1, 10, 300])
def test_statement_budget_of_named_decisions(db: Engine, size: int) -> None:
    """A batch of named decisions takes one read more than others, whatever its size."""
    commands = [
        replace(command, request_digest=bytes(32), candidates=command.candidates[:1]) for command in scores(2, size)
    ]
    with writing(db) as connection:
        score(connection, scores(1, 100))
    with writing(db) as connection, collect_statements(db) as statements:
        score(connection, commands)
        assert [statement.split()[0] for statement in statements] == ["SELECT", "SELECT", "WITH"]
        statements.clear()
        score(connection, commands)
        assert [statement.split()[0] for statement in statements] == ["SELECT", "SELECT"]
        statements.clear()
        learn(connection, [reaction(command) for command in commands])
        assert [statement.split()[0] for statement in statements] == ["SELECT", "SELECT", "WITH"]


@pytest.mark.parametrize("policy", [LINUCB, EPSILON_GREEDY])
def test_propensity_is_frequency(db: Engine, policy: str) -> None:
    """Of 20,000 decisions with ids 0, 1, 2, ..., each tip's count fits its stored propensity (chi-square).

    One of three candidates is sent twice: the propensity in the answer is the sum over its places.
    """
    decisions = 20_000
    candidates = [
        build_candidate(name, "s", build_task(False, 0.0, priority))
        for name, priority in zip("abca", (1, 4, 2, 1), strict=True)
    ]
    make = partial(decide_by, Parameters(alpha=1.0, epsilon=0.3, exploration=0.3))
    for start in range(0, decisions, 1000):
        with writing(db) as connection:
            make(
                connection,
                [
                    DecideCommand("ada", builtin(policy), UUID(int=number), NOON, build_context(9, 2), candidates)
                    for number in range(start, start + 1000)
                ],
            )
    with writing(db) as connection:
        found = connection.execute(
            text("SELECT tip_id, count(*), min(propensity), max(propensity) FROM oo_ml.feature_history GROUP BY tip_id")
        ).all()
    assert all(least == most for _, _, least, most in found)
    stated = {tip: propensity for tip, _, propensity, _ in found}
    assert stated.keys() == {"a", "b", "c"}
    assert sum(stated.values()) == pytest.approx(1)
    assert stated["c"] == pytest.approx(0.3 / 4)
    chi_square = sum((count - decisions * stated[tip]) ** 2 / (decisions * stated[tip]) for tip, count, _, _ in found)
    assert chi_square < 13.8  # two degrees of freedom, the 99.9th percentile


def test_empty_batch(db: Engine) -> None:
    """An empty batch has no outcome and writes nothing."""
    with writing(db) as connection:
        assert score(connection, []) == []
        assert learn(connection, []) == []
        assert reset(connection, []) == []
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 0
