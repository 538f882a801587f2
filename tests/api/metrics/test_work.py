"""Metrics of the work behind requests: lanes and pools, decisions, rewards, the gateway."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine

from tests import calls
from tests import gateway as behave
from tests.conftest import Serve
from tests.gateway import Gateway
from tests.migrations.rows import uuid7
from tests.scraping import Scraped, scrape
from tests.services.upkeep.months import NOW
from tests.serving import Service
from tests.superuser import tamper

LINUCB, EGREEDY = "linucb-v1", "egreedy-v1"
TIPS = json.dumps([{"id": "a", "content": "Stretch."}])


def score(service: Service, path: str = "/score", **overrides: Any) -> str:  # noqa: ANN401 - JSON
    """Make a decision and return its id."""
    answer = service.client.post(path, json=calls.score(**overrides))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["decision_id"])


def decisions(found: Scraped) -> dict[tuple[str, str], float]:
    """Return the number of decisions by policy and explored."""
    return {
        (policy, explored): value
        for policy in (LINUCB, EGREEDY)
        for explored in ("true", "false")
        if (value := found.value("oo_ml_decisions_total", policy=policy, explored=explored))
    }


def test_decisions(serve: Serve) -> None:
    """A decision is counted by policy, and by whether it was drawn at random; a repeated call counts once."""
    service = serve(epsilon=1, exploration=0)
    named = str(uuid7(NOW))
    for _ in range(3):
        score(service, decision_id=named)
    score(service)
    score(service, "/score/egreedy")
    items = [calls.score("ben"), calls.score("cem"), calls.score("ben", decision_id=str(uuid7(NOW, 1)))]
    service.client.post("/score/batch", json={"items": [*items, items[-1], {"user_id": "no candidates"}]})
    assert decisions(scrape(service.client)) == {(LINUCB, "false"): 5, (EGREEDY, "true"): 1}


def test_rewards(service: Service) -> None:
    """A reward is counted once by the policy that learns it, with the time since its decision if there is one."""
    decision_id = score(service, "/score/egreedy")
    for _ in range(2):
        service.client.post("/reward", json=calls.reward(decision_id=decision_id))
    service.client.post("/reward", json=calls.reward("ben"))
    # Corrections are no rewards.
    service.client.put(f"/users/ada/decisions/{decision_id}/reward", json={"reward": 0.5})
    found = scrape(service.client)
    assert found.value("oo_ml_rewards_total", policy=EGREEDY) == 1
    assert found.value("oo_ml_rewards_total", policy=LINUCB) == 1
    assert found.value("oo_ml_reward_delay_seconds_count", policy=EGREEDY) == 1
    assert found.value("oo_ml_reward_delay_seconds_count", policy=LINUCB) is None


def test_reward_delay(service: Service, admin: Engine) -> None:
    """The delay of a reward is the time since the decision, with or without its id."""
    first, _ = score(service), score(service, "/score", user_id="ben")
    tamper(admin, "UPDATE oo_ml.feature_history SET decided_at = decided_at - interval '2 hours'")
    service.client.post("/reward", json=calls.reward(decision_id=first))
    service.client.post("/reward", json=calls.reward("ben"))
    found = scrape(service.client)
    assert found.value("oo_ml_reward_delay_seconds_bucket", policy=LINUCB, le="3600.0") == 0
    assert found.value("oo_ml_reward_delay_seconds_bucket", policy=LINUCB, le="14400.0") == 2


def test_lanes_and_pools(service: Service) -> None:
    """Waiting, batch size and transaction time are told of the lanes and of each pool by its name."""
    score(service)
    service.client.post("/score/batch", json={"items": [calls.score(), calls.score("ben")]})
    service.client.get("/stats/ada")
    service.client.get("/users/ada/verify")
    found = scrape(service.client)
    for name, batch in (("lanes", 1), ("writer", 2), ("long", 1)):
        assert found.value("oo_ml_lane_batch_size_sum", lanes=name) == batch
        for metric in ("oo_ml_lane_wait_seconds", "oo_ml_lane_batch_size", "oo_ml_transaction_seconds"):
            assert found.value(f"{metric}_count", lanes=name) == 1, (metric, name)
        assert found.value("oo_ml_transaction_retries_total", lanes=name) == 0
        assert found.value("oo_ml_lane_queued", lanes=name) == 0
        assert found.value("oo_ml_pool_connections", pool=name, state="idle") == 1
        assert found.value("oo_ml_pool_connections", pool=name, state="in_use") == 0
        assert found.value("oo_ml_pool_limit", pool=name) == 2
    # Readiness at the start, the policies, the stats, and the numbers of this scrape.
    assert found.value("oo_ml_lane_batch_size_count", lanes="reader") == 4
    assert found.value("oo_ml_pool_limit", pool="reader") == 4


@pytest.mark.parametrize(
    ("reply", "outcome", "tokens"),
    [
        (behave.completion(TIPS), "ok", (11, 7)),
        (behave.completion("no list"), "invalid_reply", (33, 21)),
        (behave.answer(500, "broken"), "gateway_error", (0, 0)),
    ],
    ids=["ok", "invalid reply", "error"],
)
def test_generations(
    serve: Serve, gateway: Gateway, reply: behave.Behaviour, outcome: str, tokens: tuple[int, int]
) -> None:
    """A generation is counted by prompt version and outcome, with its tokens, those of failures included."""
    gateway.script(reply)
    service = serve(litellm_url=gateway.url)
    service.client.post("/generate", json={"user_id": "ada"})
    service.client.post("/generate", json={"user_id": "ada", "prompt_version": "unknown"})
    found = scrape(service.client)
    assert found.value("oo_ml_gateway_seconds_count", version="v1", outcome=outcome) == 1
    assert found.sum("oo_ml_gateway_seconds_count") == 1
    used = [found.value("oo_ml_gateway_tokens_total", version="v1", kind=kind) for kind in ("prompt", "completion")]
    assert used == list(tokens)
