"""Two concurrent calls about one user: the result is one that they could have one after the other.

A lock holds the row that they need. A call starts once the calls before it wait for the lock, so their order is known.
Each call goes to its own service, so that they meet in the database. At one service they would queue in a lane.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar
from urllib.parse import quote

import pytest
from sqlalchemy import Engine

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.storage.policy_state import StateKey
from tests import calls
from tests.gates import count_blocked, holding_state, scalar
from tests.services.lives.reference_user import Answer, ReferenceUser
from tests.services.lives.state_machine import Life, parse_answer
from tests.services.reference_policies import PATH_SUFFIXES, are_close
from tests.serving import Service
from tests.waiting import until

D: Final = "01936f3e-0000-7000-8000-000000000001"
NEW: Final = "01936f3e-0000-7000-8000-000000000002"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Move:
    """A call, and its effect on the reference user."""

    call: Callable[[], Answer]
    apply: Callable[[ReferenceUser], Answer]


def build_moves(life: Life, service: Service) -> dict[str, Move]:
    """Return the calls to a service about ada and the decision D, by name."""
    client, user_id = service.client, life.users["ada"].user_id
    encoded = quote(user_id, safe="")
    by_id = {"user_id": user_id, "tip_id": "t1", "decision_id": D}
    features = {"hour_of_day": 17, "is_overdue": True, "task_age_days": 9.0, "priority": 1}
    by_tip = calls.reward(user_id, value=0.3, features=features)

    def score(decision_id: str, **overrides: Any) -> Move:  # noqa: ANN401 - JSON
        body = {**build_request(user_id), "decision_id": decision_id, **overrides}
        return Move(
            lambda: parse_answer(client.post("/score", json=body)),
            lambda user: user.score(LINUCB, body, {"decision_id": decision_id}),
        )

    def reward(body: dict[str, Any], key: str | None = None, policy: str = LINUCB) -> Move:
        headers = {} if key is None else {"Idempotency-Key": key}
        return Move(
            lambda: parse_answer(client.post(f"/reward{PATH_SUFFIXES[policy]}", json=body, headers=headers)),
            lambda user: user.reward(policy, body, key),
        )

    def correct_move(value: float | None) -> Move:
        path = f"/users/{encoded}/decisions/{D}/reward"
        return Move(
            lambda: parse_answer(client.delete(path) if value is None else client.put(path, json={"reward": value})),
            lambda user: user.correct(D, value),
        )

    def reset(user: ReferenceUser) -> Answer:
        user.reset()
        return 200, {"ok": True}

    return {
        "decide": score(NEW),
        "decide otherwise": score(NEW, context={"hour_of_day": 17, "day_of_week": 2}),
        "ask again": score(D),
        "reward": reward(by_id | {"reward": 1.0}),
        "reward otherwise": reward(by_id | {"reward": -1.0}, policy=EPSILON_GREEDY),
        "reward the tip": reward(by_tip),
        "reward the tip by key": reward(by_tip, "a"),
        "reward by the same key": reward(by_id | {"reward": 0.5}, "a"),
        "amend": correct_move(0.5),
        "retract": correct_move(None),
        # Decisions made during this call are too young: whether it sees them would depend on luck.
        "assume": Move(
            lambda: (200, life.stage.give_defaults(0.5, timedelta(0))), lambda user: (200, user.default(0.5))
        ),
        "reset": Move(lambda: parse_answer(client.post(f"/reset/{encoded}")), reset),
        "erase": Move(lambda: parse_answer(client.delete(f"/users/{encoded}")), ReferenceUser.erase),
    }


MOVES: Final = (
    "decide",
    "decide otherwise",
    "ask again",
    "reward",
    "reward otherwise",
    "reward the tip",
    "reward the tip by key",
    "reward by the same key",
    "amend",
    "retract",
    "assume",
    "reset",
    "erase",
)
# Calls about D before the two concurrent ones.
PASTS: Final = {"rewarded": ["reward"], "assumed": ["assume"], "retracted": ["reward", "retract"], "reset": ["reset"]}
ABOUT_A_REWARD: Final = ("reward otherwise", "reward the tip", "amend", "retract", "assume")


@pytest.mark.parametrize("first", MOVES)
def test_interleavings_for_an_open_decision(life: type[Life], first: str) -> None:
    """Any two concurrent calls give the answers and the rows that they give one after the other."""
    other = life.stage.start()
    for second in MOVES:
        play(life, other, [], first, second)
    assert_no_deadlock(life)


@pytest.mark.slow
@pytest.mark.parametrize("past", PASTS)
def test_interleavings_for_a_rewarded_decision(life: type[Life], past: str) -> None:
    """The same holds for a decision with a reward, a default reward or a retraction, or from before a reset."""
    other = life.stage.start()
    for first in ABOUT_A_REWARD:
        for second in ABOUT_A_REWARD:
            play(life, other, PASTS[past], first, second)
    assert_no_deadlock(life)


def assert_no_deadlock(life: type[Life]) -> None:
    """Check that PostgreSQL aborted no transaction because of a deadlock."""
    # Backends report deadlocks to the statistics when they are idle, or when they end.
    life.stage.stop()
    assert scalar(life.stage.db, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


def play(life: type[Life], other: Service, past: list[str], first: str, second: str) -> None:
    """Give ada the decision D and a past, then make two concurrent calls; the first one waits for the lock first."""
    if first == second == "assume":
        # Two processes never run the task at once: the second leaves it to the first.
        return
    one = life()
    user = one.users["ada"]
    can, can_elsewhere = build_moves(one, one.stage.service), build_moves(one, other)
    one.ask("score", "ada", LINUCB, {**build_request(user.user_id), "decision_id": D})
    for name in past:
        assert are_close(can[name].call(), can[name].apply(user))
    found = call_in_order(one.stage.db, StateKey(user.user_id, LINUCB), can[first].call, can_elsewhere[second].call)
    expected = [can[name].apply(user) for name in (first, second)]
    assert are_close(found, expected), (first, second, found, expected)
    one.recent += [(user, D), (user, NEW)]
    one.verify_all()
    one.compare_rows()
    one.compare_receipts()
    one.teardown()


def build_request(user_id: str) -> dict[str, Any]:
    """Return a request with one candidate, so that the tip is known."""
    tip = {"id": "t1", "content": "c", "source": "s"}
    features = {"is_overdue": False, "task_age_days": 2.0, "priority": 3}
    return {
        "user_id": user_id,
        "candidates": [tip | {"features": features}],
        "context": {"hour_of_day": 9, "day_of_week": 2},
    }


def call_in_order(db: Engine, key: StateKey, *started: Callable[[], Result]) -> list[Result]:
    """Lock a state, start the calls in this order, and release it. A call that needs no lock does not wait."""
    with ThreadPoolExecutor() as clients:
        with holding_state(db, *key):
            answers: list[Future[Result]] = []
            for call in started:
                answers.append(clients.submit(call))
                until(lambda: count_blocked(db) + sum(answer.done() for answer in answers) == len(answers))
        return [answer.result() for answer in answers]
