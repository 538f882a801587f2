"""Warm entries: verify compares each with the decision of another policy that it comes from."""

import re
from typing import Final

import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.services.audit.verify import verify
from oo_ml.services.decisions.reset import reset
from oo_ml.storage.user_ranges import ALL_USERS
from tests.pooled_users import POOLED, build_parameters
from tests.services.audit.test_recompute import find_sentence
from tests.services.audit.test_verify import RETAINED
from tests.services.users.test_warm import warm_all
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers
from tests.superuser import superuser

_ADA: Final = "kind = 'warm' AND user_id = 'ada' AND version = 3"
_NUMBER: Final = r"-?[0-9.e-]+"
_OWN: Final = """
    origin_decision_id = (
        SELECT decision_id FROM oo_ml.reward_ledger
        WHERE user_id = 'ada' AND policy = 'pooled-v1' AND kind = 'reward'
    )
"""
TAMPERED: Final = {
    "reward": ("reward = 0.75", "expected reward = 0.5, that of the decision then, found 0.75"),
    "zero": ("reward = '-0'", "expected reward = 0.5, that of the decision then, found -0.0"),
    "one bit of x": ("x[1] = x[1] + 2.3e-16", rf"expected x\[0\] = {_NUMBER}, found {_NUMBER}"),
    "short x": ("x = x[1:11]", "expected x to be 12 finite numbers, found 11 finite numbers"),
    "tip": ("tip_id = 'another'", "expected the tip of this decision, found another"),
    "decision": (
        "origin_decision_id = '00000000-0000-0000-0000-000000000001'",
        "expected an earlier ledger entry of this decision, found none",
    ),
    "decision of the same policy": (_OWN, "expected a decision of another policy, found one of this policy"),
}


@pytest.fixture
def users(db: Engine) -> SimulatedUsers:
    """Two users with three warm entries each before a reset: no state depends on them."""
    simulated = SimulatedUsers(db, 1)
    for user_id in ("ada", "ben"):
        pooled = simulated.decide(user_id, POOLED, ids=["t0"], parameters=build_parameters())
        simulated.react(pooled, 0.5)
        for policy in (LINUCB, EPSILON_GREEDY):
            simulated.react(simulated.decide(user_id, policy, ids=["t0"]), 0.5)
        simulated.assume(simulated.decide(user_id, ids=["t0"]), 0.0)
    assert warm_all(db).rewards == 6
    with writing(db) as connection:
        reset(connection, ["ada", "ben"])
    assert find_sentence(db) is None
    return simulated


def change(db: Engine, assignment: str, which: str = _ADA) -> None:
    """Change one warm entry."""
    with superuser(db) as connection:
        statement = f"UPDATE oo_ml.reward_ledger SET {assignment} WHERE {which}"  # noqa: S608
        assert connection.execute(text(statement)).rowcount == 1


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("what", TAMPERED)
def test_tampering(db: Engine, what: str) -> None:
    """The sentence names the entry, the decision, the expected and the found."""
    assignment, sentence = TAMPERED[what]
    change(db, assignment)
    found = find_sentence(db)
    assert found is not None
    place = r"pooled-v1, epoch 0, version 3(, decision [0-9a-f-]{36})?: "
    assert re.fullmatch(place + sentence, found), found


def test_fields_that_cannot_be_read(db: Engine, users: SimulatedUsers) -> None:
    """A policy that can't read the decision's fields can't have learned from it."""
    command = users.decisions[list(users.decisions)[2]]
    with superuser(db) as connection:
        statement = "UPDATE oo_ml.feature_history SET features = '{\"priority\": []}' WHERE decision_id = :name"
        assert connection.execute(text(statement), {"name": command.decision_id}).rowcount == 1
    found = find_sentence(db)
    assert found is not None
    assert found.endswith(": expected a decision whose fields pooled-v1 can read, found another")


def test_rewards_that_changed_later(db: Engine, users: SimulatedUsers) -> None:
    """An entry has the reward that counted when it was added, whatever the decision's reward is now."""
    first, *others = list(users.decisions)[1:4]
    users.correct(first, -1.0)
    for one in others:
        users.correct(one, None)
    assert find_sentence(db) is None
    change(db, "reward = -1", "kind = 'warm' AND user_id = 'ada' AND version = 2")
    found = find_sentence(db)
    assert found is not None
    assert found.endswith("expected reward = 0.5, that of the decision then, found -1.0")


@pytest.mark.usefixtures("users")
def test_past_retention(db: Engine) -> None:
    """If retention removed the decision, the reward is still compared, and the features can't be."""
    with superuser(db) as connection:
        connection.execute(text("DELETE FROM oo_ml.feature_history"))
        connection.execute(text(RETAINED))
    change(db, "x[1] = x[1] + 0.5")
    assert find_sentence(db) is None
    change(db, "reward = 1")
    assert find_sentence(db) is not None


@pytest.mark.usefixtures("users")
def test_pages(db: Engine) -> None:
    """An entry is found on each page, whatever the size of the pages."""
    change(db, "reward = 1", "kind = 'warm' AND user_id = 'ben' AND version = 4")
    for page_size in (1, 2, 3, 100):
        with writing(db) as connection:
            [report] = verify(connection, [ALL_USERS], page_size=page_size)
        assert report.difference is not None
        assert report.difference.user_id == "ben"
