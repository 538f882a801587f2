"""Two calls that meet before there is a row to wait for: a new user, a new decision, a new Idempotency-Key.

A gate holds a row that is not committed yet; a call that waits for it finds it committed or rolled back.
The two calls come from two services: at one they would wait for each other in their user's lane.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, event, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import UnknownDecisionError
from oo_ml.services.audit.verify import verify
from oo_ml.services.decisions.decide import DecideCommand
from oo_ml.services.decisions.learn import (
    CorrectCommand,
    DecisionRewardCommand,
    RewardCommand,
    correct,
    learn,
)
from oo_ml.services.walk_users import walk_all
from oo_ml.storage import policy_state
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.postgres.sessions import Writing
from oo_ml.storage.reward_ledger import IdempotencyKey
from tests import calls
from tests.candidates import build_candidate, build_context, build_task
from tests.conftest import make_settings
from tests.gates import count_blocked, scalar, wait_until_blocked
from tests.policies import FRESH, Parameters, builtin, decide_by
from tests.services.lives.state_machine import parse_answer
from tests.services.reference_policies import PATH_SUFFIXES
from tests.serving import Service
from tests.sessions import open_session, writing
from tests.waiting import until

D: Final = "01936f3e-0000-7000-8000-000000000001"
ADA: Final = StateKey("ada", LINUCB)
NOW: Final = datetime.now(UTC)
BOTH: Final = pytest.mark.parametrize("policy", PATH_SUFFIXES)


# A decision that is not committed yet


@pytest.mark.parametrize("reaction", ["reward", "amend"])
@pytest.mark.parametrize("known", [False, True])
def test_reaction_to_an_uncommitted_decision(service: Service, db: Engine, reaction: str, *, known: bool) -> None:
    """The reaction is a 404 without waiting; sent again after the COMMIT of the decision, it counts."""
    if known:
        service.client.post("/score", json=calls.score())
    with open_session(db) as deciding:
        decide_uncommitted(deciding, LINUCB)
        assert parse_answer(react(service, reaction)) == (404, "unknown_decision")
        deciding.commit()
    answer = react(service, reaction).json()
    assert (answer["applied"], answer["reward"]) == (True, 1.0)
    assert scalar(db, "SELECT array_agg((kind, reward)::text) FROM oo_ml.reward_ledger") == ["(reward,1)"]
    assert differences(db) == []


@pytest.mark.parametrize("statement", [1, 2])
@pytest.mark.parametrize("command", ["reward", "amend"])
def test_reaction_while_its_decision_is_committed(db: Engine, command: str, statement: int) -> None:
    """A decision committed after any statement of the reaction is either unknown to it or known."""
    command_of = {
        "reward": partial(learn, commands=[DecisionRewardCommand("ada", UUID(D), "t1", 1.0, NOW)]),
        "amend": partial(correct, commands=[CorrectCommand("ada", UUID(D), 1.0, NOW)]),
    }
    with open_session(db) as reacting, reacting.begin():
        call_after(reacting, statement, lambda: decide_and_commit(db))
        [outcome] = command_of[command](reacting)
    with writing(db) as connection:
        [again] = command_of[command](connection)
    assert not isinstance(again, Exception)
    assert again.applied == isinstance(outcome, UnknownDecisionError)
    assert again.reward == 1.0
    assert scalar(db, "SELECT array_agg((version, kind)::text) FROM oo_ml.reward_ledger") == ["(1,reward)"]
    assert differences(db) == []


def test_batch_while_a_named_decision_is_committed(db: Engine) -> None:
    """A reward without a decision locks the user's state; a named decision of the other policy is not locked by it."""
    commands: list[RewardCommand | DecisionRewardCommand] = [
        RewardCommand("ada", builtin(EPSILON_GREEDY), "t1", 0.5, NOW, build_context(9, 2), build_task(False, 0.0, 1)),
        DecisionRewardCommand("ada", UUID(D), "t1", 1.0, NOW),
    ]
    with writing(db) as connection:
        policy_state.lock_or_create_states(connection, {StateKey("ada", EPSILON_GREEDY): FRESH[EPSILON_GREEDY]})
    with open_session(db) as reacting, reacting.begin():
        call_after(reacting, 1, lambda: decide_and_commit(db))
        tied, named = learn(reacting, commands)
    assert not isinstance(tied, Exception)
    assert (tied.applied, tied.decision_id) == (True, None)
    assert isinstance(named, UnknownDecisionError) or (
        not isinstance(named, Exception) and named.decision_id == UUID(D)
    )
    assert differences(db) == []


# The same name at two endpoints


@BOTH
@pytest.mark.parametrize("goes_through", [True, False])
def test_decision_id_in_use_by_an_open_transaction(
    service: Service, db: Engine, policy: str, *, goes_through: bool
) -> None:
    """The second request waits; it is a conflict if the first commits, and makes the decision if not."""
    [other] = PATH_SUFFIXES.keys() - {policy}
    with ThreadPoolExecutor() as clients:
        with open_session(db) as deciding:
            decide_uncommitted(deciding, other)
            waiting = clients.submit(
                service.client.post, f"/score{PATH_SUFFIXES[policy]}", json=calls.score(decision_id=D)
            )
            wait_until_blocked(db, 1)
            deciding.commit() if goes_through else deciding.rollback()
        answer = parse_answer(waiting.result())
    if goes_through:
        assert answer == (409, "decision_exists")
    else:
        assert (answer[0], answer[1]["policy"]) == (200, policy)
    assert pulls(db) == {other if goes_through else policy: 1}
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 1
    assert differences(db) == []


def test_decision_id_at_two_endpoints(service: Service, second_service: Service, db: Engine) -> None:
    """Of two requests about to write the same decision one succeeds; the other is a conflict and counts no pull."""
    for door in PATH_SUFFIXES.values():
        assert service.client.post(f"/score{door}", json=calls.score()).status_code == 200
    with ThreadPoolExecutor() as clients:
        with holding_name(db, "feature_history", {"decision_id": D}):
            answers = [
                clients.submit(at.client.post, f"/score{door}", json=calls.score(decision_id=D))
                for at, door in zip((service, second_service), PATH_SUFFIXES.values(), strict=True)
            ]
            wait_until_blocked(db, 2)
        statuses = {policy: answer.result().status_code for policy, answer in zip(PATH_SUFFIXES, answers, strict=True)}
    assert sorted(statuses.values()) == [200, 409]
    assert pulls(db) == {policy: 2 if status == 200 else 1 for policy, status in statuses.items()}
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 3
    assert differences(db) == []


@BOTH
@pytest.mark.parametrize("goes_through", [True, False])
def test_idempotency_key_in_use_by_an_open_transaction(
    service: Service, db: Engine, policy: str, *, goes_through: bool
) -> None:
    """The second call waits; it is a conflict if the first commits, and counts if not."""
    [other] = PATH_SUFFIXES.keys() - {policy}
    command = RewardCommand(
        "ada",
        builtin(other),
        "t1",
        1.0,
        NOW,
        build_context(9, 2),
        build_task(False, 0.0, 1),
        IdempotencyKey("a", bytes(32)),
    )
    with ThreadPoolExecutor() as clients:
        with open_session(db) as learning:
            learn(learning, [command])
            waiting = clients.submit(post_with_key, service, policy)
            wait_until_blocked(db, 1)
            learning.commit() if goes_through else learning.rollback()
        status, answer = parse_answer(waiting.result())
    assert (status, answer if goes_through else answer["applied"]) == (
        (409, "idempotency_key_reused") if goes_through else (200, True)
    )
    assert scalar(db, "SELECT array_agg((policy, version)::text) FROM oo_ml.reward_ledger") == [
        f"({other if goes_through else policy},1)"
    ]
    assert differences(db) == []


def test_idempotency_key_at_two_endpoints(service: Service, second_service: Service, db: Engine) -> None:
    """Of two calls about to write the same key one reward counts; the other is a conflict and teaches nothing."""
    for door in PATH_SUFFIXES.values():
        assert service.client.post(f"/reward{door}", json=calls.reward()).status_code == 200
    with ThreadPoolExecutor() as clients:
        with holding_name(db, "reward_ledger", {"idempotency_key": "a", "version": 99}):
            answers = [
                clients.submit(post_with_key, at, policy)
                for at, policy in zip((service, second_service), PATH_SUFFIXES, strict=True)
            ]
            wait_until_blocked(db, 2)
        statuses = {policy: answer.result().status_code for policy, answer in zip(PATH_SUFFIXES, answers, strict=True)}
    assert sorted(statuses.values()) == [200, 409]
    for policy, status in statuses.items():
        stats = service.client.get(f"/stats{PATH_SUFFIXES[policy]}/ada").json()
        assert (stats["reward_count"], stats["cumulative_reward"]) == ((2, 2.0) if status == 200 else (1, 1.0))
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 3
    assert differences(db) == []


# Two first calls of a new user


@pytest.mark.parametrize("goes_through", [True, False])
@pytest.mark.parametrize("second", ["score", "score by the same name", "reward", "reset"])
def test_first_calls_of_two_kinds(
    service: Service, second_service: Service, db: Engine, second: str, *, goes_through: bool
) -> None:
    """Both calls find the row that one of them created: a decision is made once, and a reward counts."""
    post = second_service.client.post
    started = {
        "score": partial(post, "/score", json=calls.score()),
        "score by the same name": partial(post, "/score", json=calls.score(decision_id=D)),
        "reward": partial(post, "/reward", json=calls.reward()),
        "reset": partial(post, "/reset/ada"),
    }
    with ThreadPoolExecutor() as clients:
        with open_session(db) as creating:
            # A row of the same key that is not committed: every call finds none, and waits to insert one.
            policy_state.lock_or_create_states(creating, {ADA: FRESH[ADA.policy]})
            answers = [clients.submit(service.client.post, "/score", json=calls.score(decision_id=D))]
            wait_until_blocked(db, 1)
            answers.append(clients.submit(started[second]))
            # There is no user to reset yet.
            until(lambda: count_blocked(db) + answers[1].done() == 2)
            creating.commit() if goes_through else creating.rollback()
        assert [answer.result().status_code for answer in answers] == [200, 200]
    if second == "score by the same name":
        assert answers[0].result().content == answers[1].result().content
    assert pulls(db) == {LINUCB: 2 if second == "score" else 1}
    assert scalar(db, "SELECT array_agg((epoch, reward_count, version)::text) FROM oo_ml.policy_state") == [
        "(0,1,1)" if second == "reward" else "(0,0,0)"
    ]
    assert differences(db) == []


@pytest.mark.parametrize("goes_through", [True, False])
def test_first_call_and_erasure(service: Service, db: Engine, *, goes_through: bool) -> None:
    """The decision is erased as a whole, or starts the user anew as a whole."""
    with ThreadPoolExecutor() as clients:
        with open_session(db) as creating:
            policy_state.lock_or_create_states(creating, {ADA: FRESH[ADA.policy]})
            scored = clients.submit(service.client.post, "/score", json=calls.score(decision_id=D))
            wait_until_blocked(db, 1)
            erased = clients.submit(service.client.delete, "/users/ada")
            until(lambda: count_blocked(db) + erased.done() == 2)
            creating.commit() if goes_through else creating.rollback()
        assert scored.result().status_code == 200
        gone = erased.result().json()["erased"]["feature_history"]
    assert pulls(db) == ({} if gone else {LINUCB: 1})
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 1 - gone
    assert differences(db) == []


@pytest.mark.parametrize("goes_through", [True, False])
def test_first_rewards(service: Service, second_service: Service, db: Engine, *, goes_through: bool) -> None:
    """Both rewards count, one after the other."""
    with ThreadPoolExecutor() as clients:
        with open_session(db) as creating:
            policy_state.lock_or_create_states(creating, {ADA: FRESH[ADA.policy]})
            answers = [
                clients.submit(at.client.post, "/reward", json=calls.reward(value=value))
                for at, value in [(service, 1.0), (second_service, -0.5)]
            ]
            wait_until_blocked(db, 2)
            creating.commit() if goes_through else creating.rollback()
        assert [answer.result().json()["applied"] for answer in answers] == [True, True]
    assert scalar(db, "SELECT (reward_count, cumulative_reward, version)::text FROM oo_ml.policy_state") == "(2,0.5,2)"
    assert differences(db) == []


# Helpers


def decide_uncommitted(connection: Writing, policy: str) -> None:
    """Make the decision D of ada, for t1, and leave the transaction open."""
    candidates = [build_candidate("t1", "s", build_task(is_overdue=False, task_age_days=0.0, priority=1))]
    command = DecideCommand("ada", builtin(policy), UUID(D), NOW, build_context(9, 2), candidates, bytes(32))
    decide_by(Parameters(alpha=1.0, epsilon=0.0), connection, [command])


def decide_and_commit(db: Engine) -> None:
    """Make the same decision, and commit it."""
    with writing(db) as connection:
        decide_uncommitted(connection, LINUCB)


def react(service: Service, reaction: str) -> Any:  # noqa: ANN401 - a response
    """React to D."""
    if reaction == "amend":
        return service.client.put(f"/users/ada/decisions/{D}/reward", json={"reward": 1.0})
    return service.client.post("/reward", json={"user_id": "ada", "tip_id": "t1", "reward": 1.0, "decision_id": D})


def post_with_key(service: Service, policy: str) -> Any:  # noqa: ANN401 - a response
    """Reward t1 by the key a."""
    return service.client.post(f"/reward{PATH_SUFFIXES[policy]}", json=calls.reward(), headers={"Idempotency-Key": "a"})


def pulls(db: Engine) -> dict[str, int]:
    """Return the decisions of each policy that has a state, as the state counts them."""
    with writing(db) as connection:
        return {policy: state.pulls for policy, state in policy_state.read_states(connection, "ada").items()}


def differences(db: Engine) -> list[str]:
    """Return the differences that verification of all users finds."""
    reports = walk_all(db, make_settings(), verify).parts
    return [report.difference.sentence for report in reports if report.difference is not None]


def call_after(connection: Connection, place: int, disturb: Callable[[], None]) -> None:
    """Call `disturb` right after the statement of that number in a transaction."""
    count = 0

    def count_statement(*_: object) -> None:
        nonlocal count
        count += 1
        if count == place:
            disturb()

    event.listen(connection, "after_cursor_execute", count_statement)


@contextmanager
def holding_name(db: Engine, table: str, name: dict[str, Any]) -> Iterator[None]:
    """Insert a copy of a row under this name, and roll it back at the end of the block."""
    with open_session(db) as holder:
        holder.execute(
            text(
                f"INSERT INTO oo_ml.{table} SELECT (jsonb_populate_record(t, CAST(:name AS jsonb))).*"  # noqa: S608
                f" FROM oo_ml.{table} AS t LIMIT 1"
            ),
            {"name": json.dumps(name)},
        )
        yield
