"""Two calls at once for one user: the result is that of one after the other.

A gate holds the row that they need. A call starts when the calls before it are seen to wait, so their order is known.
Each call goes to a service of its own, so that they meet in the database: at one service they would queue in a lane.
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
from tests.services.lives.reference_user import Answer, Person
from tests.services.lives.state_machine import Life, answer_of
from tests.services.reference_policies import DOORS, alike
from tests.serving import Service
from tests.waiting import until

D: Final = "01936f3e-0000-7000-8000-000000000001"
NEW: Final = "01936f3e-0000-7000-8000-000000000002"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Move:
    """A call, and its effect on the reference user."""

    call: Callable[[], Answer]
    plainly: Callable[[Person], Answer]


def moves(life: Life, service: Service) -> dict[str, Move]:
    """Return the calls to a service about ada and her decision D."""
    client, user_id = service.client, life.people["ada"].user_id
    encoded = quote(user_id, safe="")
    by_id = {"user_id": user_id, "tip_id": "t1", "decision_id": D}
    features = {"hour_of_day": 17, "is_overdue": True, "task_age_days": 9.0, "priority": 1}
    by_tip = calls.reward(user_id, value=0.3, features=features)

    def score(decision_id: str, **overrides: Any) -> Move:  # noqa: ANN401 - JSON
        body = {**question(user_id), "decision_id": decision_id, **overrides}
        return Move(
            lambda: answer_of(client.post("/score", json=body)),
            lambda person: person.score(LINUCB, body, {"decision_id": decision_id}),
        )

    def reward(body: dict[str, Any], key: str | None = None, policy: str = LINUCB) -> Move:
        headers = {} if key is None else {"Idempotency-Key": key}
        return Move(
            lambda: answer_of(client.post(f"/reward{DOORS[policy]}", json=body, headers=headers)),
            lambda person: person.reward(policy, body, key),
        )

    def corrected(value: float | None) -> Move:
        path = f"/users/{encoded}/decisions/{D}/reward"
        return Move(
            lambda: answer_of(client.delete(path) if value is None else client.put(path, json={"reward": value})),
            lambda person: person.correct(D, value),
        )

    def reset(person: Person) -> Answer:
        person.reset()
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
        "amend": corrected(0.5),
        "retract": corrected(None),
        # Only to decisions from before this call: whether it sees one that is made during it depends on the moment.
        "assume": Move(
            lambda: (200, life.stage.give_defaults(0.5, timedelta(0))), lambda person: (200, person.default(0.5))
        ),
        "reset": Move(lambda: answer_of(client.post(f"/reset/{encoded}")), reset),
        "erase": Move(lambda: answer_of(client.delete(f"/users/{encoded}")), Person.erase),
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
# Calls about D before the two.
PASTS: Final = {"rewarded": ["reward"], "assumed": ["assume"], "retracted": ["reward", "retract"], "reset": ["reset"]}
ABOUT_A_REWARD: Final = ("reward otherwise", "reward the tip", "amend", "retract", "assume")


@pytest.mark.parametrize("first", MOVES)
def test_interleavings_for_an_open_decision(life: type[Life], first: str) -> None:
    """Any two calls give the answers, the ledger, the history and the model of one after the other."""
    other = life.stage.start()
    for second in MOVES:
        play(life, other, [], first, second)
    assert_no_deadlock(life)


@pytest.mark.slow
@pytest.mark.parametrize("past", PASTS)
def test_interleavings_for_a_rewarded_decision(life: type[Life], past: str) -> None:
    """The same holds for a decision with a reward, a default or a retraction, or from before a reset."""
    other = life.stage.start()
    for first in ABOUT_A_REWARD:
        for second in ABOUT_A_REWARD:
            play(life, other, PASTS[past], first, second)
    assert_no_deadlock(life)


def assert_no_deadlock(life: type[Life]) -> None:
    """Check that PostgreSQL aborted no transaction because of a deadlock."""
    # Backends tell of it when they have nothing to do, or when they end.
    life.stage.stop()
    assert scalar(life.stage.db, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


def play(life: type[Life], other: Service, past: list[str], first: str, second: str) -> None:
    """Give ada the decision D and a past, then make two calls at once, the first of which waits first."""
    if first == second == "assume":
        # Two processes never run the task at once: the second leaves it to the first.
        return
    one = life()
    person = one.people["ada"]
    can, can_elsewhere = moves(one, one.stage.service), moves(one, other)
    one.ask("score", "ada", LINUCB, {**question(person.user_id), "decision_id": D})
    for name in past:
        assert alike(can[name].call(), can[name].plainly(person))
    found = at_the_gate(one.stage.db, StateKey(person.user_id, LINUCB), can[first].call, can_elsewhere[second].call)
    expected = [can[name].plainly(person) for name in (first, second)]
    assert alike(found, expected), (first, second, found, expected)
    one.recent += [(person, D), (person, NEW)]
    one.all_is_proven()
    one.all_is_known()
    one.decisions_are_explained()
    one.teardown()


def question(user_id: str) -> dict[str, Any]:
    """Return a request with one candidate, so that the choice is known."""
    tip = {"id": "t1", "content": "c", "source": "s"}
    features = {"is_overdue": False, "task_age_days": 2.0, "priority": 3}
    return {
        "user_id": user_id,
        "candidates": [tip | {"features": features}],
        "context": {"hour_of_day": 9, "day_of_week": 2},
    }


def at_the_gate(db: Engine, key: StateKey, *started: Callable[[], Result]) -> list[Result]:
    """Lock a state, let calls queue for it in this order, and release it; a call that needs no lock does not wait."""
    with ThreadPoolExecutor() as clients:
        with holding_state(db, *key):
            answers: list[Future[Result]] = []
            for call in started:
                answers.append(clients.submit(call))
                until(lambda: count_blocked(db) + sum(answer.done() for answer in answers) == len(answers))
        return [answer.result() for answer in answers]
