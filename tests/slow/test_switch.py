"""A switch of all users from linucb-v1 to pooled-v1, by traffic, while clients call: no user is forgotten."""

from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import LINUCB
from tests import calls
from tests.commands import Done, Served, oo_ml_process, run_serve
from tests.gates import scalar
from tests.rows import assert_folded
from tests.slow.upgrade.steady_load import SteadyLoad, assert_stored
from tests.waiting import until

pytestmark = pytest.mark.slow

POOLED: Final = "pooled-v1"
# Calls between two steps, so that each of them is under load.
CALLS: Final = 120
# Users whose reward comes after the switch.
LATE: Final = 5


def test_switch(service_url: str, admin: Engine, tmp_path: Path) -> None:
    """Warm, switch, and warm again under load: each call counts once, and pooled-v1 knows every user who reacted.

    The steps are those of docs/guides/policies.md.
    """
    log = tmp_path / "service.log"
    with run_serve(log, None, OO_ML_DATABASE_URL=service_url, OO_ML_POLICY_MAX_AGE=0.2) as served:
        load = SteadyLoad(str(served.client.base_url))
        late = [decide(served, load, f"late-{number}") for number in range(LATE)]
        with load.running():
            load.go_on(CALLS)
            first = run(service_url, "policies", "warm", POOLED)
            assert count(admin, "reward_ledger", "kind = 'warm'") > 0
            load.go_on(CALLS)
            run(service_url, "policies", "traffic", f"{POOLED}=0.95", "uniform-v1=0.05")
            until(lambda: count(admin, "feature_history", f"policy = '{POOLED}'") > 0)
            for decision in late:
                react(served, load, decision)
            load.go_on(CALLS)
            second = run(service_url, "policies", "warm", POOLED)
            load.go_on(CALLS)
        last = run(service_url, "policies", "warm", POOLED)
    assert all("left out 0" in done.out for done in (first, second, last))
    assert_stored(admin, load)
    assert_warm(admin)
    assert_folded(admin)
    assert count(admin, "feature_history", f"policy = '{POOLED}' AND policy_probability = 0.95") > 0
    assert run(service_url, "verify").out.startswith("No difference: ")
    assert "ERROR" not in log.read_text("utf-8")


def run(url: str, *words: str) -> Done:
    """Run a command on the database of the service, in a process of its own."""
    done = oo_ml_process(*words, OO_ML_DATABASE_URL=url)
    assert done.code == 0, done.out + done.err
    return done


def count(db: Engine, table: str, condition: str) -> int:
    """Return the number of rows of a table for which a condition holds."""
    counted = scalar(db, f"SELECT count(*) FROM oo_ml.{table} WHERE {condition}")  # noqa: S608 - words of this file
    assert isinstance(counted, int)
    return counted


def decide(served: Served, load: SteadyLoad, user_id: str) -> tuple[str, str]:
    """Make a decision before the switch, and return its user and its id."""
    said = served.client.post("/score", json=calls.score(user_id)).raise_for_status().json()
    assert said["policy"] == LINUCB
    load.answers[user_id, said["decision_id"]] = said
    return user_id, said["decision_id"]


def react(served: Served, load: SteadyLoad, decision: tuple[str, str]) -> None:
    """Reward a decision."""
    user_id, decision_id = decision
    body = {"user_id": user_id, "tip_id": load.answers[decision]["tip_id"], "decision_id": decision_id, "reward": 0.5}
    served.client.post("/reward", json=body).raise_for_status()
    load.entries[decision].append(("reward", 0.5))


def assert_warm(db: Engine) -> None:
    """Assert that pooled-v1 has learned once from each rewarded decision of other policies, and knows its user.

    A reward may have been retracted after it was folded.
    """
    with db.begin() as connection:
        decisions = connection.execute(
            text("SELECT user_id, decision_id, reward FROM oo_ml.feature_history WHERE policy <> :policy"),
            {"policy": POOLED},
        ).all()
        entries = connection.execute(
            text("SELECT user_id, policy, origin_decision_id FROM oo_ml.reward_ledger WHERE kind = 'warm'")
        ).all()
        known = connection.scalars(
            text("SELECT user_id FROM oo_ml.policy_state WHERE policy = :policy AND weight > 0"), {"policy": POOLED}
        ).all()
    folded = [(one.user_id, one.origin_decision_id) for one in entries]
    assert {one.policy for one in entries} == {POOLED}
    assert len(folded) == len(set(folded))
    rewarded = {(one.user_id, one.decision_id) for one in decisions if one.reward is not None}
    assert rewarded <= set(folded) <= {(one.user_id, one.decision_id) for one in decisions}
    assert {user_id for user_id, _ in rewarded} <= set(known)
