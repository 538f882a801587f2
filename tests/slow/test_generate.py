"""/generate with nothing pretended: the service, a real LiteLLM, and behind it a real, small model."""

from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from demo.offline_model import Gateway
from tests.conftest import Serve
from tests.serving import Service
from tests.sessions import writing
from tests.slow.litellm_proxy import TIPS, USAGE

pytestmark = pytest.mark.slow

# What one try may take a small model on a busy machine, and three of them.
MODEL_SECONDS = 120.0
ANSWER_SECONDS = 3 * MODEL_SECONDS + 10
BODY: dict[str, Any] = {
    "user_id": "ada",
    "n": 3,
    "context": {"tasks": [{"content": "Answer the letter from the tax office", "priority": 4}], "hour_of_day": 9},
}


def start_behind(serve: Serve, gateway: Gateway, **settings: Any) -> Service:  # noqa: ANN401 - settings have many types
    """Start the service behind `gateway`."""
    key = SecretStr(gateway.key)
    return serve(
        **{"litellm_url": gateway.base_url, "litellm_master_key": key, "llm_timeout": MODEL_SECONDS, **settings}
    )


def generate(service: Service, **more: Any) -> httpx.Response:  # noqa: ANN401 - JSON
    """Ask for three tips."""
    return service.client.post("/generate", json={**BODY, **more}, timeout=ANSWER_SECONDS)


def stored(db: Engine) -> list[Any]:
    """Return how each generation ended, in their order: outcome, attempts, tokens and number of tips stored."""
    rows = text(
        "SELECT outcome, attempts, prompt_tokens, completion_tokens, count(tip_id) AS tips "
        "FROM oo_ml.generations LEFT JOIN oo_ml.tips USING (user_id, generation_id) GROUP BY user_id, generation_id "
        "ORDER BY generation_id"
    )
    with writing(db) as connection:
        return [tuple(row) for row in connection.execute(rows)]


def test_retry_after_prose(serve: Serve, alternating_gateway: Gateway, db: Engine) -> None:
    """A reply in prose is followed by a second attempt; the answer counts the tokens of both."""
    answer = generate(start_behind(serve, alternating_gateway))
    assert answer.status_code == 200
    assert [tip["content"] for tip in answer.json()["candidates"]] == [tip["content"] for tip in TIPS]
    tokens = (2 * USAGE["prompt_tokens"], 2 * USAGE["completion_tokens"])
    assert (answer.json()["prompt_tokens"], answer.json()["completion_tokens"]) == tokens
    assert stored(db) == [("ok", 2, *tokens, 3)]


def test_wrong_key(serve: Serve, alternating_gateway: Gateway, db: Engine) -> None:
    """A gateway's refusal of the key is a 502 with the gateway's words, and is stored."""
    answer = generate(start_behind(serve, alternating_gateway, litellm_master_key=SecretStr("sk-wrong")))
    assert answer.status_code == 502
    assert "No connected db." in answer.json()["detail"]
    assert stored(db) == [("gateway_error", 1, 0, 0, 0)]


@pytest.mark.parametrize("version", ["v1", "v2-mentor", "v3-few-shot"])
def test_small_model_with_schema(serve: Serve, smollm2_gateway: Gateway, db: Engine, version: str) -> None:
    """With json_schema_bounded even the smallest model gives the tips asked for."""
    answer = generate(
        start_behind(serve, smollm2_gateway, llm_response_format="json_schema_bounded"), prompt_version=version
    )
    assert answer.status_code == 200, answer.text
    tips = answer.json()["candidates"]
    assert len(tips) == 3
    assert len({tip["id"] for tip in tips}) == 3
    assert all(tip["source"] == "llm" and tip["content"].strip() for tip in tips)
    assert answer.json()["prompt_version"] == version
    [(outcome, attempts, prompt_tokens, completion_tokens, tips_stored)] = stored(db)
    assert (outcome, tips_stored) == ("ok", 3)
    assert attempts in {1, 2, 3}
    assert (prompt_tokens, completion_tokens) == (answer.json()["prompt_tokens"], answer.json()["completion_tokens"])


def test_small_model_without_schema(serve: Serve, smollm2_gateway: Gateway, db: Engine) -> None:
    """Without a schema a reply is either valid or refused, and the rows tell which."""
    service = start_behind(serve, smollm2_gateway)
    answers = [generate(service) for _ in range(2)]
    assert {answer.status_code for answer in answers} <= {200, 502}
    outcomes = ["ok" if answer.status_code == 200 else answer.json()["code"] for answer in answers]
    assert [outcome for outcome, *_ in stored(db)] == outcomes
    assert set(outcomes) <= {"ok", "invalid_reply"}


def test_small_model_without_gateway(serve: Serve, smollm2: Gateway) -> None:
    """llama.cpp's own server works as a gateway."""
    answer = generate(start_behind(serve, smollm2, llm_response_format="json_schema_bounded"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "tip-generator"
