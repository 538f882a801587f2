"""Two calls that meet where there is no row yet to wait for: a new person, a new decision, a new name of a call.

A gate holds back the row that is being made; what waits for it sees it committed, or finds that it came to nothing.
Two calls meet from two services: at one they would wait for each other in their person's lane.
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

from oo_ml.domain.features import Moment, Task
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import UnknownDecisionError
from oo_ml.services.audit.verify import everybody
from oo_ml.services.decisions.decide import DecideCommand, Parameters, decide
from oo_ml.services.decisions.learn import (
    CorrectCommand,
    DecisionRewardCommand,
    RewardCommand,
    correct,
    learn,
)
from oo_ml.storage import states
from oo_ml.storage.ledger import Once
from oo_ml.storage.states import StateKey
from tests import calls
from tests.candidates import Candidate
from tests.conftest import make_settings
from tests.gates import count_blocked, scalar, wait_until_blocked
from tests.services.lives.state_machine import answer_of
from tests.services.reference_policies import DOORS
from tests.serving import Service
from tests.waiting import until

D: Final = "01936f3e-0000-7000-8000-000000000001"
ADA: Final = StateKey("ada", LINUCB)
NOW: Final = datetime.now(UTC)
BOTH: Final = pytest.mark.parametrize("policy", DOORS)


# A decision that is just being made


@pytest.mark.parametrize("reaction", ["reward", "amend"])
@pytest.mark.parametrize("known", [False, True])
def test_a_reaction_to_a_decision_that_is_not_committed_yet(
    service: Service, db: Engine, reaction: str, *, known: bool
) -> None:
    """It is for nothing, 404, without waiting; sent again when the decision is there, it counts."""
    if known:
        service.client.post("/score", json=calls.score())
    with db.connect() as deciding:
        decide_uncommitted(deciding, LINUCB)
        assert answer_of(react(service, reaction)) == (404, "unknown_decision")
        deciding.commit()
    answer = react(service, reaction).json()
    assert (answer["applied"], answer["reward"]) == (True, 1.0)
    assert scalar(db, "SELECT array_agg((kind, reward)::text) FROM oo_ml.reward_ledger") == ["(reward,1)"]
    assert differences(db) == []


@pytest.mark.parametrize("statement", [1, 2])
@pytest.mark.parametrize("command", ["reward", "amend"])
def test_a_reaction_to_a_decision_that_comes_into_being_meanwhile(db: Engine, command: str, statement: int) -> None:
    """Committed behind any statement of the reaction, it is unknown to it or known: never half."""
    command_of = {
        "reward": partial(learn, commands=[DecisionRewardCommand("ada", UUID(D), "t1", 1.0, NOW)]),
        "amend": partial(correct, commands=[CorrectCommand("ada", UUID(D), 1.0, NOW)]),
    }
    with db.connect() as reacting, reacting.begin():
        after(reacting, statement, lambda: decided(db))
        [outcome] = command_of[command](reacting)
    with db.begin() as connection:
        [again] = command_of[command](connection)
    assert not isinstance(again, Exception)
    assert again.applied == isinstance(outcome, UnknownDecisionError)
    assert again.reward == 1.0
    assert scalar(db, "SELECT array_agg((version, kind)::text) FROM oo_ml.reward_ledger") == ["(1,reward)"]
    assert differences(db) == []


def test_a_batch_about_somebody_whose_decision_comes_into_being_meanwhile(db: Engine) -> None:
    """The reward that names no decision holds her state, the one that names a decision of the other policy does not."""
    commands: list[RewardCommand | DecisionRewardCommand] = [
        RewardCommand("ada", EPSILON_GREEDY, "t1", 0.5, NOW, Moment(9, 2), Task(False, 0.0, 1)),
        DecisionRewardCommand("ada", UUID(D), "t1", 1.0, NOW),
    ]
    with db.begin() as connection:
        states.lock_or_create(connection, [StateKey("ada", EPSILON_GREEDY)])
    with db.connect() as reacting, reacting.begin():
        after(reacting, 1, lambda: decided(db))
        tied, named = learn(reacting, commands)
    assert not isinstance(tied, Exception)
    assert (tied.applied, tied.decision_id) == (True, None)
    assert isinstance(named, UnknownDecisionError) or (
        not isinstance(named, Exception) and named.decision_id == UUID(D)
    )
    assert differences(db) == []


# The same name at two doors


@BOTH
@pytest.mark.parametrize("goes_through", [True, False])
def test_a_decision_id_that_another_door_is_about_to_use(
    service: Service, db: Engine, policy: str, *, goes_through: bool
) -> None:
    """The second waits for the first; then it is a conflict, or, if the first came to nothing, the decision."""
    [other] = DOORS.keys() - {policy}
    with ThreadPoolExecutor() as clients:
        with db.connect() as deciding:
            decide_uncommitted(deciding, other)
            waiting = clients.submit(service.client.post, f"/score{DOORS[policy]}", json=calls.score(decision_id=D))
            wait_until_blocked(db, 1)
            deciding.commit() if goes_through else deciding.rollback()
        answer = answer_of(waiting.result())
    if goes_through:
        assert answer == (409, "decision_exists")
    else:
        assert (answer[0], answer[1]["policy"]) == (200, policy)
    assert pulls(db) == {other if goes_through else policy: 1}
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 1
    assert differences(db) == []


def test_a_decision_id_at_two_doors_at_once(service: Service, second_service: Service, db: Engine) -> None:
    """Both are about to write the decision: one does, the other is a conflict and has not pulled."""
    for door in DOORS.values():
        assert service.client.post(f"/score{door}", json=calls.score()).status_code == 200
    with ThreadPoolExecutor() as clients:
        with holding_name(db, "feature_history", {"decision_id": D}):
            answers = [
                clients.submit(at.client.post, f"/score{door}", json=calls.score(decision_id=D))
                for at, door in zip((service, second_service), DOORS.values(), strict=True)
            ]
            wait_until_blocked(db, 2)
        statuses = {policy: answer.result().status_code for policy, answer in zip(DOORS, answers, strict=True)}
    assert sorted(statuses.values()) == [200, 409]
    assert pulls(db) == {policy: 2 if status == 200 else 1 for policy, status in statuses.items()}
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 3
    assert differences(db) == []


@BOTH
@pytest.mark.parametrize("goes_through", [True, False])
def test_an_idempotency_key_that_another_door_is_about_to_use(
    service: Service, db: Engine, policy: str, *, goes_through: bool
) -> None:
    """The second waits for the first; then it is a conflict, or, if the first came to nothing, it counts."""
    [other] = DOORS.keys() - {policy}
    command = RewardCommand("ada", other, "t1", 1.0, NOW, Moment(9, 2), Task(False, 0.0, 1), Once("a", bytes(32)))
    with ThreadPoolExecutor() as clients:
        with db.connect() as learning:
            learn(learning, [command])
            waiting = clients.submit(post_with_key, service, policy)
            wait_until_blocked(db, 1)
            learning.commit() if goes_through else learning.rollback()
        status, answer = answer_of(waiting.result())
    assert (status, answer if goes_through else answer["applied"]) == (
        (409, "idempotency_key_reused") if goes_through else (200, True)
    )
    assert scalar(db, "SELECT array_agg((policy, version)::text) FROM oo_ml.reward_ledger") == [
        f"({other if goes_through else policy},1)"
    ]
    assert differences(db) == []


def test_an_idempotency_key_at_two_doors_at_once(service: Service, second_service: Service, db: Engine) -> None:
    """Both are about to write the key: one reward counts, the other is a conflict and has taught nothing."""
    for door in DOORS.values():
        assert service.client.post(f"/reward{door}", json=calls.reward()).status_code == 200
    with ThreadPoolExecutor() as clients:
        with holding_name(db, "reward_ledger", {"idempotency_key": "a", "version": 99}):
            answers = [
                clients.submit(post_with_key, at, policy)
                for at, policy in zip((service, second_service), DOORS, strict=True)
            ]
            wait_until_blocked(db, 2)
        statuses = {policy: answer.result().status_code for policy, answer in zip(DOORS, answers, strict=True)}
    assert sorted(statuses.values()) == [200, 409]
    for policy, status in statuses.items():
        stats = service.client.get(f"/stats{DOORS[policy]}/ada").json()
        assert (stats["reward_count"], stats["cumulative_reward"]) == ((2, 2.0) if status == 200 else (1, 1.0))
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger") == 3
    assert differences(db) == []


# Two first calls of somebody whom nobody knows


@pytest.mark.parametrize("goes_through", [True, False])
@pytest.mark.parametrize("second", ["score", "score by the same name", "reward", "reset"])
def test_two_first_calls(
    service: Service, second_service: Service, db: Engine, second: str, *, goes_through: bool
) -> None:
    """Whoever created the row, both find the same one: a decision is made once, and a reward counts."""
    post = second_service.client.post
    started = {
        "score": partial(post, "/score", json=calls.score()),
        "score by the same name": partial(post, "/score", json=calls.score(decision_id=D)),
        "reward": partial(post, "/reward", json=calls.reward()),
        "reset": partial(post, "/reset/ada"),
    }
    with ThreadPoolExecutor() as clients:
        with db.connect() as creating:
            # A row of the same key that is not committed: whoever comes finds none, and waits to insert one.
            states.lock_or_create(creating, [ADA])
            answers = [clients.submit(service.client.post, "/score", json=calls.score(decision_id=D))]
            wait_until_blocked(db, 1)
            answers.append(clients.submit(started[second]))
            # There is nobody to be reset yet.
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
def test_a_first_call_and_an_erasure(service: Service, db: Engine, *, goes_through: bool) -> None:
    """The decision is erased, or it begins a new life: all of it."""
    with ThreadPoolExecutor() as clients:
        with db.connect() as creating:
            states.lock_or_create(creating, [ADA])
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
def test_two_first_rewards(service: Service, second_service: Service, db: Engine, *, goes_through: bool) -> None:
    """Both count, one after the other."""
    with ThreadPoolExecutor() as clients:
        with db.connect() as creating:
            states.lock_or_create(creating, [ADA])
            answers = [
                clients.submit(at.client.post, "/reward", json=calls.reward(value=value))
                for at, value in [(service, 1.0), (second_service, -0.5)]
            ]
            wait_until_blocked(db, 2)
            creating.commit() if goes_through else creating.rollback()
        assert [answer.result().json()["applied"] for answer in answers] == [True, True]
    assert scalar(db, "SELECT (reward_count, cumulative_reward, version)::text FROM oo_ml.policy_state") == "(2,0.5,2)"
    assert differences(db) == []


# Words that these tests share


def decide_uncommitted(connection: Connection, policy: str) -> None:
    """Make the decision D of ada, of t1, and leave the transaction open."""
    candidates = [Candidate("t1", "s", Task(is_overdue=False, task_age_days=0.0, priority=1))]
    command = DecideCommand("ada", policy, UUID(D), NOW, Moment(9, 2), candidates, bytes(32))
    decide(connection, [command], parameters=Parameters(alpha=1.0, epsilon=0.0))


def decided(db: Engine) -> None:
    """Make the same decision, and commit it."""
    with db.begin() as connection:
        decide_uncommitted(connection, LINUCB)


def react(service: Service, reaction: str) -> Any:  # noqa: ANN401 - a response
    """React to D."""
    if reaction == "amend":
        return service.client.put(f"/users/ada/decisions/{D}/reward", json={"reward": 1.0})
    return service.client.post("/reward", json={"user_id": "ada", "tip_id": "t1", "reward": 1.0, "decision_id": D})


def post_with_key(service: Service, policy: str) -> Any:  # noqa: ANN401 - a response
    """Reward t1 by the key a."""
    return service.client.post(f"/reward{DOORS[policy]}", json=calls.reward(), headers={"Idempotency-Key": "a"})


def pulls(db: Engine) -> dict[str, int]:
    """Return the decisions of each policy that has a state, as the state counts them."""
    with db.begin() as connection:
        return {policy: state.pulls for policy, state in states.read(connection, "ada").items()}


def differences(db: Engine) -> list[str]:
    """Return what verifying everybody finds."""
    reports = everybody(db, make_settings()).reports
    return [report.difference.sentence for report in reports if report.difference is not None]


def after(connection: Connection, place: int, disturb: Callable[[], None]) -> None:
    """Let somebody else do something right behind a statement of a transaction."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1
        if count == place:
            disturb()

    event.listen(connection, "after_cursor_execute", counted)


@contextmanager
def holding_name(db: Engine, table: str, name: dict[str, Any]) -> Iterator[None]:
    """Hold a row by this name, like one that there is already; in the end it comes to nothing."""
    with db.connect() as holder:
        holder.execute(
            text(
                f"INSERT INTO oo_ml.{table} SELECT (jsonb_populate_record(t, CAST(:name AS jsonb))).*"  # noqa: S608
                f" FROM oo_ml.{table} AS t LIMIT 1"
            ),
            {"name": json.dumps(name)},
        )
        yield
