"""After every call, the service agrees with a reference model, and `verify` proves its states."""

from typing import Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test as run

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests.services.lives.reference_user import POOLED
from tests.services.lives.state_machine import Asked, Life
from tests.services.reference_policies import Json

TASK: Final = {"is_overdue": True, "task_age_days": 2.5, "priority": 3}
ONLY_T1: Final[Json] = {
    "candidates": [{"id": "t1", "content": "c", "source": "s", "features": TASK | {"priority": 2}}],
    "context": {"hour_of_day": 9, "day_of_week": 2},
}
# Outcomes that the fixed life must have.
EVERYTHING: Final = {
    "score: 200",
    "score nameless: 200",
    "score again: 200",
    "score again: 409 decision_exists",
    "score otherwise: 409 decision_exists",
    "reward: 200 applied",
    "reward: 200 not applied",
    "reward: 404 unknown_decision",
    "reward: 409 other_tip",
    "reward: 409 idempotency_key_reused",
    "reward, late",
    "reward, over a default",
    "reward tip: 200 applied",
    "reward tip, over a default",
    "reward again: 200 applied",
    "reward again: 200 not applied",
    "amend: 200 applied",
    "amend: 200 not applied",
    "amend: 404 unknown_decision",
    "amend, late",
    "amend, over a default",
    "retract: 200 applied",
    "retract: 200 not applied",
    "retract, late",
    "default",
    "reset: 200",
    "restart",
    "erase: 200",
}
LIVES: Final = settings(
    stateful_step_count=25, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=False
)
Step = TypeVar("Step")


def test_fixed_life(life: type[Life]) -> None:  # noqa: PLR0915 - as long as a life is
    """The same holds for a fixed life. It has every outcome, also those that a random life may lack."""
    one = life()

    def check(result: Step) -> Step:
        one.verify_all()
        one.compare_rows()
        one.compare_receipts()
        return result

    def decide(number: int, policy: str = EPSILON_GREEDY, name: str = "ada") -> Asked:
        # Later decisions get smaller ids: the order of decisions is not the order of their ids.
        named = {"user_id": one.users[name].user_id, "decision_id": f"01936f3e-0000-7000-8000-{9 - number:012}"}
        return check(one.ask("score", name, policy, ONLY_T1 | named))

    first, second, third = decide(1), decide(2), decide(3)
    check(one.score_again(first))
    check(one.score_otherwise(first, LINUCB, {}))
    check(one.score_again(check(one.score_nameless("ada", LINUCB, ONLY_T1))))
    named = check(one.reward(first, LINUCB, 1.0, None, "one"))
    check(one.reward_again(named))
    check(one.reward(first, LINUCB, 0.5, None, None))
    check(one.reward(second, LINUCB, 0.5, "t3", None))
    check(one.reward(second, LINUCB, 0.5, None, "one"))
    unnamed = [check(one.reward_tip("ada", EPSILON_GREEDY, 0.3, "t1", TASK, 17, 6, "two")) for _ in range(2)]
    check(one.reward_again(unnamed[0]))
    check(one.correct(third, None))
    check(one.correct(third, None))
    check(one.reward(third, LINUCB, 1.0, None, None))
    check(one.default(0.5))
    check(one.reward_tip("ada", EPSILON_GREEDY, -1.0, "t1", TASK, 9, 2, None))
    check(one.reward_tip("ada", EPSILON_GREEDY, -1.0, "t1", TASK, 9, 2, None))
    check(one.correct(third, 0.3))
    check(one.correct(third, 0.3))
    check(one.correct(second, -1.0))
    pooled = [check(one.score_nameless("ada", POOLED, ONLY_T1)) for _ in range(4)]
    check(one.score_again(pooled[0]))
    check(one.score_otherwise(pooled[0], LINUCB, {}))
    for asked, value in zip(pooled, (1.0, -1.0, 0.5, None), strict=True):
        check(one.reward(asked, LINUCB, 0.3, None, None))
        check(one.correct(asked, value))
    check(one.score_nameless("ada", POOLED, ONLY_T1))
    fourth, fifth, sixth, seventh = (decide(number, LINUCB) for number in (4, 5, 6, 7))
    check(one.default(0.5))
    check(one.correct(fourth, 0.5))
    check(one.reward(fifth, LINUCB, 0.5, None, None))
    check(one.correct(sixth, None))
    check(one.default(0.0))
    decide(8, LINUCB, "a/b é%")
    eighth = decide(8, LINUCB)
    check(one.reset())
    check(one.restart())
    decide(9, LINUCB)
    check(one.score_again(eighth))
    check(one.reward(eighth, LINUCB, -1.0, None, None))
    check(one.reward(seventh, LINUCB, -1.0, None, None))
    check(one.correct(sixth, 1.0))
    check(one.correct(fifth, None))
    check(one.reward_again(unnamed[0]))
    check(one.reward_tip("ada", LINUCB, 0.3, "t1", TASK, 17, 6, None))
    check(one.default(0.0))
    check(one.erase())
    check(one.reward(eighth, LINUCB, -1.0, None, None))
    check(one.correct(sixth, 1.0))
    check(one.reward_again(unnamed[0]))
    check(one.score_again(eighth))
    one.teardown()
    assert set(one.stage.seen) >= EVERYTHING


def test_lives(life: type[Life]) -> None:
    """In a few random lives, the same in each run, the service agrees with the model after every call."""
    run(life, settings=settings(LIVES, max_examples=8, derandomize=True))


@pytest.mark.slow
def test_many_lives(life: type[Life]) -> None:
    """In many random lives, the same in each run, the service agrees with the model after every call."""
    run(life, settings=settings(LIVES, max_examples=100, derandomize=True, print_blob=True))
