"""`oo-ml policies warm`."""

import json
import signal
from typing import Final
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests.commands import PATIENT, Done, oo_ml, start
from tests.gates import holding_state, wait_until_blocked
from tests.rows import assert_folded
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers
from tests.waiting import PATIENCE

USERS: Final = ("ada", "ben", "zoë")


def warm(url: str, *words: str) -> Done:
    """Run the command on a database."""
    return oo_ml("policies", "warm", *words, OO_ML_DATABASE_URL=url)


def read_entries(db: Engine) -> list[tuple[str, UUID]]:
    """Return users and decisions of the warm entries, sorted."""
    with writing(db) as connection:
        rows = connection.execute(
            text("SELECT user_id, origin_decision_id FROM oo_ml.reward_ledger WHERE kind = 'warm'")
        ).all()
    return sorted((row.user_id, row.origin_decision_id) for row in rows)


@pytest.fixture
def users(db: Engine) -> SimulatedUsers:
    """Three users with two rewarded decisions each, by two policies."""
    simulated = SimulatedUsers(db, 1)
    for user_id in USERS:
        for policy in (LINUCB, EPSILON_GREEDY):
            simulated.react(simulated.decide(user_id, policy), 0.5)
    return simulated


def test_warm(service_url: str, users: SimulatedUsers) -> None:
    """A dry run writes nothing, a run folds every reward, and a later one only those that came since."""
    progress = "Warming: 6 of 6\n"
    folded = "users 3, rewards 6, left out 0, already there 0\n"
    rehearsed = Done(0, f"{folded}A dry run: nothing was written\n", progress)
    assert warm(service_url, "pooled-v1", "--dry-run") == rehearsed
    assert warm(service_url, "pooled-v1") == Done(0, folded, progress)
    users.react(users.decide("ben"), 1.0)
    assert warm(service_url, "pooled-v1").out == "users 1, rewards 1, left out 0, already there 6\n"


def test_json(service_url: str, users: SimulatedUsers) -> None:
    """The JSON has the sources; --from may be repeated."""
    users.react(users.decide("ada", EPSILON_GREEDY), 1.0)
    done = warm(service_url, "pooled-v1", "--from", EPSILON_GREEDY, "--from", "uniform-v1", "--json")
    assert json.loads(done.out) == {
        "policy": "pooled-v1",
        "from": [EPSILON_GREEDY, "uniform-v1"],
        "complete": True,
        "dry_run": False,
        "users": 3,
        "rewards": 4,
        "left_out": 0,
        "already_there": 0,
    }


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nothing-v1"], 1, "Unknown policy: nothing-v1; `oo-ml policies list` shows those published"),
        (["pooled-v1", "--from", "nothing-v1"], 1, "Unknown policy: nothing-v1;"),
        (["pooled-v1", "--from", LINUCB, "--from", "pooled-v1"], 2, "pooled-v1 can't be warmed from itself"),
        (["pooled-v1", "--from", "a b"], 2, "must be 1 to 100 letters"),
        (["uniform-v1"], 1, "uniform-v1 is retired: it makes no more decisions, so it can't be warmed"),
    ],
)
def test_refusals(service_url: str, words: list[str], code: int, message: str) -> None:
    """Unknown policies, a retired one, and a policy that learns from itself are refused."""
    assert oo_ml("policies", "retire", "uniform-v1", OO_ML_DATABASE_URL=service_url).code == 0
    done = warm(service_url, *words)
    assert (done.code, done.out) == (code, "")
    assert message in " ".join(done.err.split())


def test_retired_source(service_url: str, db: Engine) -> None:
    """The decisions of a retired policy still count for another one."""
    users = SimulatedUsers(db, 1)
    users.react(users.decide("ada", "uniform-v1"), 1.0)
    oo_ml("policies", "retire", "uniform-v1", OO_ML_DATABASE_URL=service_url)
    assert warm(service_url, "pooled-v1").out == "users 1, rewards 1, left out 0, already there 0\n"


def test_kill(service_url: str, db: Engine, users: SimulatedUsers) -> None:
    """After a SIGKILL in the middle the same command goes on, and the result is that of a run without one."""
    with holding_state(db, "ben", LINUCB):
        process = start("policies", "warm", "pooled-v1", OO_ML_DATABASE_URL=service_url, **PATIENT)
        wait_until_blocked(db, 1)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    assert {user_id for user_id, _ in read_entries(db)} == {"ada"}
    assert warm(service_url, "pooled-v1").out == "users 2, rewards 4, left out 0, already there 2\n"
    assert read_entries(db) == sorted((command.user_id, name) for name, command in users.decisions.items())
    assert_folded(db)
    assert oo_ml("verify", OO_ML_DATABASE_URL=service_url).code == 0


@pytest.mark.usefixtures("users")
def test_interruption(service_url: str, db: Engine) -> None:
    """Ctrl-C ends the command with what it has done so far."""
    with holding_state(db, "ben", LINUCB):
        process = start("policies", "warm", "pooled-v1", OO_ML_DATABASE_URL=service_url, **PATIENT)
        wait_until_blocked(db, 1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert out.splitlines() == [
        "Stopped before the end; the same command goes on from there. So far:",
        "users 1, rewards 2, left out 0, already there 0",
    ]


@pytest.mark.usefixtures("users")
def test_locked_user(service_url: str, db: Engine) -> None:
    """A user who stays locked is tried again at the end, for OO_ML_LONG_TIMEOUT; the error says how to go on."""
    with holding_state(db, "ben", LINUCB):
        done = oo_ml(
            "policies",
            "warm",
            "pooled-v1",
            OO_ML_DATABASE_URL=service_url,
            OO_ML_LOCK_TIMEOUT=0.2,
            OO_ML_LANE_LOCK_TIMEOUT=0.2,
            OO_ML_LONG_TIMEOUT=0.5,
        )
    assert done.code == 1
    assert "Another session holds locks; users who are not warm for that reason: 1" in done.err
    assert done.out.splitlines() == [
        "Stopped before the end; the same command goes on from there. So far:",
        "users 2, rewards 4, left out 0, already there 0",
    ]
    assert warm(service_url, "pooled-v1").out == "users 1, rewards 2, left out 0, already there 4\n"
