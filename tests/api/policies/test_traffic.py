"""/score and /reward choose the policy by the user, as the traffic says."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import Engine

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.domain.traffic import Traffic
from oo_ml.services.policies.traffic import SetTrafficCommand, TrafficChange, set_traffic
from tests import calls
from tests.api.decisions.decisions import new_id, read_receipt
from tests.conftest import Serve
from tests.gates import scalar
from tests.serving import Service
from tests.sessions import writing
from tests.waiting import until

UNIFORM = "uniform-v1"
USERS = [f"user {number}" for number in range(40)]
SHARES = {LINUCB: 0.4, EPSILON_GREEDY: 0.4, UNIFORM: 0.2}


def set_shares(db: Engine, shares: Mapping[str, float] = SHARES) -> Traffic:
    """Set the traffic; return it."""
    with writing(db) as connection:
        [outcome] = set_traffic(connection, [SetTrafficCommand(shares, datetime.now(UTC), "(command line)")])
    assert isinstance(outcome, TrafficChange)
    return Traffic(outcome.salt, outcome.shares)


def pick_user(traffic: Traffic, policy: str) -> str:
    """Return a user who has the policy."""
    return next(user for user in USERS if traffic.pick(user) == policy)


def pulls(service: Service, policy: str, user: str) -> int:
    """Return how often a policy has decided for a user."""
    found: int = service.client.get(f"/policies/{policy}/users/{user}").json()["pulls"]
    return found


def test_policy_of_each_user(db: Engine, serve: Serve) -> None:
    """Each user has the policy that the hash gives, alone and in batches; the receipt has its share."""
    traffic = set_shares(db)
    service = serve()
    batch = service.client.post("/score/batch", json={"items": [calls.score(user) for user in USERS]}).json()
    for user, outcome in zip(USERS, batch["outcomes"], strict=True):
        alone = service.client.post("/score", json=calls.score(user)).json()
        assert (alone["policy"], outcome["body"]["policy"]) == (traffic.pick(user),) * 2
        for one in (alone, outcome["body"]):
            assert read_receipt(service, one, user)["policy_probability"] == SHARES[one["policy"]]
    assert {traffic.pick(user) for user in USERS} == SHARES.keys()


def test_named_policies(db: Engine, serve: Serve) -> None:
    """A client that names a policy gets it: the traffic is for those that name none."""
    user = pick_user(set_shares(db), UNIFORM)
    service = serve()
    greedy = service.client.post("/score/egreedy", json=calls.score(user)).json()
    body = {"user_id": user, "candidates": [{"id": "a"}, {"id": "b"}]}
    named = service.client.post(f"/policies/{LINUCB}/score", json=body).json()
    batch = service.client.post("/score/batch", json={"items": [calls.score(user, policy=LINUCB)]}).json()
    item = batch["outcomes"][0]["body"]
    assert (greedy["policy"], named["policy"], item["policy"]) == (EPSILON_GREEDY, LINUCB, LINUCB)
    assert [read_receipt(service, one, user)["policy_probability"] for one in (greedy, named, item)] == [None] * 3


def test_without_traffic(service: Service) -> None:
    """Without traffic /score is linucb-v1, and no decision has a share."""
    answer = service.client.post("/score", json=calls.score()).json()
    assert (answer["policy"], read_receipt(service, answer)["policy_probability"]) == (LINUCB, None)


def test_rewards(db: Engine, serve: Serve) -> None:
    """A reward without a decision teaches the user's policy, alone and in batches, and finds the tip's decision."""
    traffic = set_shares(db)
    service = serve()
    user = pick_user(traffic, UNIFORM)
    made = service.client.post("/score", json=calls.score(user)).json()
    done = service.client.post("/reward", json=calls.reward(user, tip_id=made["tip_id"])).json()
    assert done["decision_id"] == made["decision_id"]
    again = {"items": [calls.reward(user, tip_id="another")]}
    assert service.client.post("/reward/batch", json=again).json()["outcomes"][0]["body"]["applied"]
    counts = {
        policy: service.client.get(f"/policies/{policy}/users/{user}").json()["reward_count"] for policy in SHARES
    }
    assert counts == {LINUCB: 0, EPSILON_GREEDY: 0, UNIFORM: 2}


def test_repetition_after_a_change(db: Engine, serve: Serve) -> None:
    """A call sent again after a change of the traffic gets the same decision; a new call gets the new policy."""
    user = pick_user(set_shares(db), UNIFORM)
    request = calls.score(user, decision_id=new_id())
    reward = calls.reward(user, tip_id="free")
    headers = {"Idempotency-Key": "k"}
    before = serve()
    first = before.client.post("/score", json=request).json()
    assert before.client.post("/reward", json=reward, headers=headers).json()["applied"]
    set_shares(db, {LINUCB: 1.0})
    after = serve()
    assert after.client.post("/score", json=request).json() == first
    assert not after.client.post("/reward", json=reward, headers=headers).json()["applied"]
    assert after.client.post("/score", json=calls.score(user)).json()["policy"] == LINUCB
    # The repetition has decided nothing.
    assert (pulls(after, UNIFORM, user), pulls(after, LINUCB, user)) == (1, 1)


def test_change_in_a_running_service(db: Engine, serve: Serve) -> None:
    """A running service follows a change within OO_ML_POLICY_MAX_AGE."""
    service = serve(policy_max_age=0.01)
    assert service.client.post("/score", json=calls.score()).json()["policy"] == LINUCB
    set_shares(db, {EPSILON_GREEDY: 1.0})
    # Once a reading is too old, the next call waits for a new one.
    until(lambda: service.client.post("/score", json=calls.score()).json()["policy"] == EPSILON_GREEDY)
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history WHERE policy_probability = 1") == 1
