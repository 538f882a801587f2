"""SIGKILL under load: each acknowledged call is stored once, and no call is stored that no client sent."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from oo_ml.storage.postgres import engine
from tests.commands import oo_ml_process, processes_in
from tests.conftest import make_settings
from tests.gates import scalar
from tests.rows import assert_folded
from tests.sessions import writing
from tests.slow.crashing import Machine, machine
from tests.slow.load import CALLS, Load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="only Linux shows what is left of PostgreSQL"),
]

KILLS = 10


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Machine]:
    """PostgreSQL and a service; both are removed afterwards."""
    with machine(tmp_path) as one:
        yield one
    assert processes_in(tmp_path) == set()


@pytest.fixture
def db(running: Machine) -> Iterator[Engine]:
    """An engine on its database; nothing is connected yet."""
    created = engine.create(running.url, make_settings(), threads=1)
    yield created
    created.dispose()


@pytest.mark.parametrize(
    "kills",
    [[Machine.kill_service], [Machine.kill_database, Machine.kill_postmaster]],
    ids=["the service", "PostgreSQL"],
)
def test_kills_lose_no_acknowledged_call(
    running: Machine, db: Engine, kills: Sequence[Callable[[Machine], None]]
) -> None:
    """Ten kills in the middle of two thousand calls lose no acknowledged call and apply none twice.

    Clients repeat a call with the same ids until it is acknowledged, and repeat some acknowledged calls at the end. A
    few clients call once only: a call of theirs without an acknowledgement may be stored or not, but not twice.
    """
    load = Load(lambda: running.address)
    moments = sorted(random.Random(len(kills)).sample(range(50, CALLS - 150), KILLS))  # noqa: S311
    with load.running():
        for moment, kill in zip(moments, cycle(kills), strict=False):
            load.wait_for(moment)
            kill(running)
    sent = [*load.scores, *load.rewards]
    assert len(sent) == CALLS
    assert sum(call.tries > 1 for call in sent) >= KILLS
    assert scalar(db, "SELECT current_setting('fsync') || current_setting('synchronous_commit')") == "onon"
    assert_decisions(db, load)
    assert_rewards(db, load)
    assert_sums(db)
    assert_folded(db)
    verified = oo_ml_process("verify", "--all", OO_ML_DATABASE_URL=running.url)
    assert (verified.code, verified.out.split(":")[0]) == (0, "No difference"), verified.out + verified.err


def assert_decisions(db: Engine, load: Load) -> None:
    """Each that was acknowledged is stored with the answer that was given; each that is stored was asked for."""
    with writing(db) as connection:
        stored = {
            (user_id, str(decision_id)): answer
            for user_id, decision_id, answer in connection.execute(
                text("SELECT user_id, decision_id, answer FROM oo_ml.feature_history")
            )
        }
    told = {call.name: call.answer.json() for call in load.scores if call.answer}
    assert {name: stored.get(name) for name in told} == told
    assert stored.keys() <= {call.name for call in load.scores}


def assert_rewards(db: Engine, load: Load) -> None:
    """Each that was acknowledged counts once, with its value; none counts twice, or that was refused or never sent."""
    with writing(db) as connection:
        ledger = [
            ((row.user_id, str(row.decision_id or row.tip_id)), row.reward, row.idempotency_key)
            for row in connection.execute(text("SELECT * FROM oo_ml.reward_ledger"))
        ]
        history = {
            (user_id, str(decision_id)): reward
            for user_id, decision_id, reward in connection.execute(
                text("SELECT user_id, decision_id, reward FROM oo_ml.feature_history WHERE reward IS NOT NULL")
            )
        }
    sent = {call.name: (call.name, call.body["reward"], call.key) for call in load.rewards}
    acknowledged = {call.name for call in load.rewards if call.is_acknowledged}
    refused = {call.name for call in load.rewards if call.answer} - acknowledged
    names = {name for name, _, _ in ledger}
    assert [name for name, times in Counter(name for name, _, _ in ledger).items() if times > 1] == []
    assert acknowledged - names == set()
    assert names & refused == set()
    assert [row for row in ledger if row != sent.get(row[0])] == []
    decided = {call.name for call in load.scores}
    assert history == {name: reward for name, reward, _ in ledger if name in decided}
    for call in load.rewards:
        if call.answer and call.is_acknowledged:
            said = call.answer.json()
            assert said["reward"] == call.body["reward"]
            assert said["decision_id"] == call.body.get("decision_id")
            assert said["applied"] or call.tries > 1


def assert_sums(db: Engine) -> None:
    """Each state has counted its decisions and its rewards, and their sum is exact."""
    with writing(db) as connection:
        states = connection.execute(
            text("SELECT user_id, policy, pulls, version, reward_count, cumulative_reward FROM oo_ml.policy_state")
        ).all()
        decisions = Counter(
            (user_id, policy)
            for user_id, policy in connection.execute(text("SELECT user_id, policy FROM oo_ml.feature_history"))
        )
        rewards = connection.execute(text("SELECT user_id, policy, reward FROM oo_ml.reward_ledger")).all()
    for state in states:
        values = [row.reward for row in rewards if (row.user_id, row.policy) == (state.user_id, state.policy)]
        assert state.pulls == decisions.pop((state.user_id, state.policy), 0)
        assert (state.version, state.reward_count, state.cumulative_reward) == (len(values), len(values), sum(values))
    assert decisions == Counter()
    assert sum(state.version for state in states) == len(rewards)
