"""Traffic between policies: changes are rows, and policies that /score can't decide by are refused."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import OoMlError, PolicyInUseError, TrafficRefusedError
from oo_ml.services.policies import registry
from oo_ml.services.policies.retire import retire
from oo_ml.services.policies.traffic import SetTrafficCommand, Shares, TrafficChange, set_traffic, show_traffic
from tests.services.policies.readers import define, publish_policy
from tests.sessions import writing
from tests.simulated_users import NOON, SimulatedUsers

UNIFORM = "uniform-v1"


def change(db: Engine, shares: Mapping[str, float], by: str = "(command line)") -> TrafficChange | OoMlError:
    """Set the shares."""
    with writing(db) as connection:
        [outcome] = set_traffic(connection, [SetTrafficCommand(shares, NOON, by)])
    return outcome


def read(db: Engine, since: datetime = NOON) -> Shares:
    """Return the changes, and what was decided by traffic."""
    with writing(db) as connection:
        [shares] = show_traffic(connection, [since])
    return shares


def retire_one(db: Engine, name: str) -> registry.PolicyRow | OoMlError:
    """Retire a policy."""
    with writing(db) as connection:
        [outcome] = retire(connection, [name], retired_at=NOON)
    return outcome


def test_changes(db: Engine) -> None:
    """Each change is a row with its time and author; the salt stays, so that few users get another policy."""
    assert read(db) == Shares([], {})
    first = change(db, {LINUCB: 0.9, UNIFORM: 0.1})
    second = change(db, {LINUCB: 0.5, EPSILON_GREEDY: 0.5}, by="key-1")
    assert isinstance(first, TrafficChange)
    assert isinstance(second, TrafficChange)
    assert read(db).changes == [second, first]
    assert (first.salt, first.changed_at, first.changed_by) == (second.salt, NOON, "(command line)")
    assert (second.changed_by, second.shares) == ("key-1", {LINUCB: 0.5, EPSILON_GREEDY: 0.5})


@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        ({LINUCB: 0.5, UNIFORM: 0.4}, "their sum is 0.9"),
        ({LINUCB: 1.5, UNIFORM: -0.5}, "must each be above 0"),
        ({LINUCB: 0.5, "none": 0.5}, "Unknown policy: none"),
        ({LINUCB: 0.5, "old": 0.5}, "Retired policy: old"),
        ({LINUCB: 0.5, "news": 0.5}, "news reads the field 'hour' of the context, which /score does not have"),
    ],
)
def test_refusals(db: Engine, shares: Mapping[str, float], reason: str) -> None:
    """Shares of too few or too many users, and policies that can't decide for /score, change nothing."""
    publish_policy(db, "news")
    publish_policy(db, "old", define(inputs=[], terms=[{"one": True}], rule={"exploration": 1}))
    assert not isinstance(retire_one(db, "old"), OoMlError)
    outcome = change(db, shares)
    assert isinstance(outcome, TrafficRefusedError)
    assert reason in outcome.message
    assert read(db).changes == []


def test_policy_with_missing_values(db: Engine) -> None:
    """A policy that reads other fields than /score has, but has values for `missing`, can have traffic."""
    inputs = [
        {"name": "mood", "of": "context", "encoding": "category", "values": ["good", "bad"], "missing": "good"},
        {"name": "priority", "of": "candidate", "encoding": "number", "min": 1, "max": 4},
    ]
    publish_policy(db, "moods", define(inputs=inputs, terms=[{"product": ["mood", "priority"]}]))
    assert isinstance(change(db, {"moods": 1.0}), TrafficChange)


def test_retirement_with_traffic(db: Engine) -> None:
    """A policy with traffic can't be retired; without it again it can."""
    change(db, {LINUCB: 0.9, UNIFORM: 0.1})
    assert isinstance(retire_one(db, UNIFORM), PolicyInUseError)
    with writing(db) as connection:
        [shown] = registry.show(connection, [UNIFORM])
    assert isinstance(shown, registry.PolicyRow)
    assert shown.status == "active"
    change(db, {LINUCB: 1.0})
    retired = retire_one(db, UNIFORM)
    assert isinstance(retired, registry.PolicyRow)
    assert retired.status == "retired"


@pytest.mark.parametrize("name", [LINUCB, EPSILON_GREEDY])
def test_retirement_of_a_contract_policy(db: Engine, name: str) -> None:
    """The policies of the contract are never retired: /score and /score/egreedy would refuse every call."""
    assert isinstance(retire_one(db, name), PolicyInUseError)
    change(db, {UNIFORM: 1.0})
    assert isinstance(retire_one(db, name), PolicyInUseError)


def test_clock_that_is_behind(db: Engine) -> None:
    """A change from a machine whose clock is behind is refused: it would have no effect."""
    change(db, {LINUCB: 1.0})
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.policy_traffic SET change_id = 'ffffffff-ffff-7fff-bfff-ffffffffffff'"))
    outcome = change(db, {UNIFORM: 1.0})
    assert isinstance(outcome, TrafficRefusedError)
    assert "the clock of this machine is behind" in outcome.message
    assert len(read(db).changes) == 1


def test_decisions_by_traffic(db: Engine) -> None:
    """Only decisions for which the traffic chose the policy are counted, by policy, since a time."""
    users = SimulatedUsers(db, 1)
    made = [users.decide(user) for user in ("ada", "ada", "ben", "zoë")]
    with writing(db) as connection:
        for decision_id in made[:3]:
            connection.execute(
                text("UPDATE oo_ml.feature_history SET policy_probability = 0.9 WHERE decision_id = :id"),
                {"id": decision_id},
            )
    decided = read(db).decided
    assert (list(decided), decided[LINUCB].decisions, decided[LINUCB].users) == ([LINUCB], 3, 2)
    assert read(db, datetime.now(UTC) + timedelta(days=2000)).decided == {}
