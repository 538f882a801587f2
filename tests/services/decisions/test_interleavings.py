"""Two calls at once about one person: whichever comes first, all is as if the other had waited for its answer.

A gate holds the row that they need. Each call is started when those before it are seen to wait: their order is known.
Each is made at a service of its own, so that they meet in the database: at one they would queue up in a lane.
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
from oo_ml.storage.states import StateKey
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
    """A call, and the same thing in plain words."""

    call: Callable[[], Answer]
    plainly: Callable[[Person], Answer]


def moves(life: Life, service: Service) -> dict[str, Move]:
    """Return what can be done at a service about the decision D of ada, or to her."""
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
# What may have become of D before.
PASTS: Final = {"rewarded": ["reward"], "assumed": ["assume"], "retracted": ["reward", "retract"], "reset": ["reset"]}
ABOUT_A_REWARD: Final = ("reward otherwise", "reward the tip", "amend", "retract", "assume")


@pytest.mark.parametrize("first", MOVES)
def test_every_two_calls_about_an_open_decision(life: type[Life], first: str) -> None:
    """The answers, the ledger, the history and the model are those of one after the other."""
    other = life.stage.start()
    for second in MOVES:
        play(life, other, [], first, second)
    assert_no_deadlock(life)


@pytest.mark.slow
@pytest.mark.parametrize("past", PASTS)
def test_every_two_calls_about_the_reward_of_a_decision(life: type[Life], past: str) -> None:
    """The same where it has a reward, a default or a retraction, or is of before a reset."""
    other = life.stage.start()
    for first in ABOUT_A_REWARD:
        for second in ABOUT_A_REWARD:
            play(life, other, PASTS[past], first, second)
    assert_no_deadlock(life)


def assert_no_deadlock(life: type[Life]) -> None:
    """Check that nothing had to be done twice: a transaction that was aborted leaves no other trace."""
    # Backends tell of it when they have nothing to do, or when they end.
    life.stage.stop()
    assert scalar(life.stage.db, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


def play(life: type[Life], other: Service, past: list[str], first: str, second: str) -> None:
    """Let ada have the decision D and a past, then do two things at once, one of which is the first to wait."""
    if first == second == "assume":
        # Two processes don't give default rewards at once: the second leaves it to the first.
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
    """One candidate, so that it is known which wins."""
    tip = {"id": "t1", "content": "c", "source": "s"}
    features = {"is_overdue": False, "task_age_days": 2.0, "priority": 3}
    return {
        "user_id": user_id,
        "candidates": [tip | {"features": features}],
        "context": {"hour_of_day": 9, "day_of_week": 2},
    }


def at_the_gate(db: Engine, key: StateKey, *started: Callable[[], Result]) -> list[Result]:
    """Hold a state, let calls queue up for it in this order, let go; one that does not need the row does not wait."""
    with ThreadPoolExecutor() as clients:
        with holding_state(db, *key):
            answers: list[Future[Result]] = []
            for call in started:
                answers.append(clients.submit(call))
                until(lambda: count_blocked(db) + sum(answer.done() for answer in answers) == len(answers))
        return [answer.result() for answer in answers]
