"""A scenario, run through the services: every kind of ledger entry, two epochs, an import, late corrections."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import numpy as np
from sqlalchemy import Engine

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.learning import Kind
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.files.legacy_state import FileState
from oo_ml.services.decisions.decide import DecideCommand, decide
from oo_ml.services.decisions.learn import CorrectCommand, DecisionRewardCommand, RewardCommand, correct, learn
from oo_ml.services.decisions.reset import reset
from oo_ml.services.decisions.unit_of_work import UnitOfWork
from oo_ml.services.users.import_state import ImportCommand, import_states
from oo_ml.storage.decision_types import DecisionKey
from tests.candidates import build_candidate, build_context, build_task
from tests.policies import Parameters, builtin
from tests.sessions import writing

NOON: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
_MOMENT: Final = build_context(9, 2)
_TASK: Final = build_task(is_overdue=True, task_age_days=3.3, priority=4)
_PARAMETERS: Final = Parameters(alpha=1.0, epsilon=1.0)


def decision(number: int) -> UUID:
    """Return the id of the decision with this number. Its tip is "t" and the number."""
    return UUID(int=number)


def create_ada_and_ben(db: Engine) -> None:
    """Create ada with two epochs, and ben with an import.

    Ledger entries by version:
    ada, linucb-v1, epoch 0: 1 reward 0.5 for decision 1; 2 default 0 for 2; 3 amend to 1 for 2; 4 reward without a
    decision; 5 reward 1 for decision 3, sent after the reset.
    ada, linucb-v1, epoch 1: 1 reward 1 for decision 4; 2 retract; 3 reward -0.5 for 4; 4 reward 0.25 for 5. Decision 6
    is open.
    ada, egreedy-v1: 1 reward 0.5 for decision 7, which was drawn at random.
    ben, linucb-v1: 1 import; 2 reward 1 without a decision. Decision 8 is open.
    """
    _decide(db, "ada", 1, 2, 3)
    _react(db, 1, 0.5)
    _assume(db, 2)
    _correct(db, 2, 1.0)
    teach(db, "ada")
    with writing(db) as connection:
        reset(connection, ["ada"])
    _decide(db, "ada", 4, 5, 6)
    _react(db, 4, 1.0)
    _correct(db, 4, None)
    _correct(db, 4, -0.5)
    _react(db, 5, 0.25)
    _correct(db, 3, 1.0)
    _decide(db, "ada", 7, policy=EPSILON_GREEDY)
    _react(db, 7, 0.5)
    _import(db, "ben")
    teach(db, "ben")
    _decide(db, "ben", 8)


def _decide(db: Engine, user_id: str, *numbers: int, policy: str = LINUCB) -> None:
    with writing(db) as connection:
        decide(
            connection,
            [
                DecideCommand(
                    user_id,
                    _PARAMETERS.policy(policy),
                    decision(number),
                    NOON,
                    _MOMENT,
                    [build_candidate(f"t{number}", "s", _TASK)],
                )
                for number in numbers
            ],
        )


def _react(db: Engine, number: int, reward: float) -> None:
    with writing(db) as connection:
        learn(connection, [DecisionRewardCommand("ada", decision(number), f"t{number}", reward, NOON)])


def _assume(db: Engine, number: int) -> None:
    key = DecisionKey("ada", decision(number))
    with writing(db) as connection:
        unit = UnitOfWork.lock(connection, decisions=[key])
        unit.apply(unit.entry_for(unit.decisions[key], 0.0, NOON, kind=Kind.DEFAULT))
        unit.write(connection)


def _correct(db: Engine, number: int, reward: float | None) -> None:
    with writing(db) as connection:
        correct(connection, [CorrectCommand("ada", decision(number), reward, NOON)])


def teach(db: Engine, user_id: str) -> None:
    """Give a user a reward without a decision."""
    with writing(db) as connection:
        learn(connection, [RewardCommand(user_id, builtin(LINUCB), "t", 1.0, NOON, _MOMENT, _TASK)])


def _import(db: Engine, user_id: str) -> None:
    x = np.linspace(-0.7, 0.9, 5)
    state = FileState(
        name=user_id,
        policy=LINUCB,
        evidence=Evidence(np.eye(5) + np.outer(x, x), 0.3 * x),
        pulls=4,
        explore_count=2,
        reward_count=1,
        cumulative_reward=0.3,
        last_updated=NOON,
    )
    with writing(db) as connection:
        import_states(connection, [ImportCommand(user_id, state)], imported_at=NOON)
