"""/generate through a real LiteLLM, configured as docs/guides/models.md says, before a reasoning model's replies."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from demo.offline_model import Gateway as Address
from tests import gateway as upstream
from tests.conftest import Serve
from tests.gateway import Behaviour, Gateway, running_gateway
from tests.serving import Service
from tests.sessions import writing
from tests.slow.litellm_proxy import litellm_proxy

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "docs/guides/models.md"
ARRAY = '[{"id": "letter", "content": "Open the letter.", "rationale": "It waits."}]'
BODY: dict[str, Any] = {"user_id": "ada", "n": 1, "context": {"tasks": [{"content": "A letter"}], "hour_of_day": 9}}
STORED = "SELECT outcome, finish_reason, attempts, repaired FROM oo_ml.generations ORDER BY position DESC LIMIT 1"


@pytest.fixture(scope="module")
def provider() -> Iterator[Gateway]:
    """The provider behind the proxy, which each test scripts."""
    with running_gateway() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(litellm: Path, provider: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """The proxy with the configuration of the guide, before a model of an OpenAI-style provider."""
    found = re.search(r"```yaml\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert found
    model = {"TIP_MODEL": "openai/o3-mini", "TIP_MODEL_API_KEY": "sk-provider", "OPENAI_BASE_URL": provider.url}
    with litellm_proxy(litellm, tmp_path_factory.mktemp("reasoning"), found[1], **model) as address:
        yield address


@pytest.fixture
def service(serve: Serve, proxy: Address) -> Service:
    """The service before the proxy."""
    return serve(litellm_url=proxy.base_url, litellm_master_key=SecretStr(proxy.key))


def message(finish_reason: str = "stop", **fields: object) -> Behaviour:
    """Answer with a message of these fields."""
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **fields}}
    return upstream.completion(None, choices=[choice])


def generate(service: Service, **more: Any) -> httpx.Response:  # noqa: ANN401 - JSON
    """Ask for a tip."""
    return service.client.post("/generate", json={**BODY, **more}, timeout=60)


def read_stored(db: Engine) -> tuple[Any, ...]:
    """Return how the last generation ended."""
    with writing(db) as connection:
        return tuple(connection.execute(text(STORED)).one())


@pytest.mark.parametrize(
    ("behaviour", "finish_reason", "repaired"),
    [
        (message(content=f"<think>\nOne task [1].\n</think>\n\n{ARRAY}"), "stop", False),
        (message(content=f"One task [1].\n</think>\n```json\n{ARRAY}\n```"), "stop", False),
        (message(content=f"<reasoning>Maybe {ARRAY.replace('Open', 'Burn')}</reasoning>{ARRAY}"), "stop", False),
        (message(content=ARRAY, reasoning_content="One task."), "stop", False),
        (message(content=f'{{"tips": {ARRAY}}}'), "stop", False),
        (message(content=f"{ARRAY[:-1]},]"), "stop", True),
        (
            message(
                "tool_calls",
                content=None,
                tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": ARRAY}}],
            ),
            "tool_calls",
            False,
        ),
    ],
    ids=["think", "closing tag", "another tag", "a field", "object", "comma", "tool"],
)
def test_replies_of_a_reasoning_model(
    service: Service, provider: Gateway, db: Engine, behaviour: Behaviour, finish_reason: str, repaired: bool
) -> None:
    """The array is read at the first attempt, however the proxy passes the reasoning on."""
    provider.script(behaviour)
    answer = generate(service)
    assert answer.status_code == 200, answer.text
    assert [tip["content"] for tip in answer.json()["candidates"]] == ["Open the letter."]
    assert answer.json()["model"] == "tip-generator"
    assert read_stored(db) == ("ok", finish_reason, 1, repaired)
    # The guide's drop_params: this model takes no temperature.
    [request] = provider.requests
    assert request.body["model"] == "o3-mini"
    assert "temperature" not in request.body


@pytest.mark.parametrize(
    ("behaviour", "finish_reason", "says"),
    [
        (message("length", content=None, reasoning_content="One task, so"), "length", "finish_reason length"),
        (message("length", content="<think>One task, so [{"), "length", "finish_reason length"),
        (message(content=None, refusal="I must not."), "refusal", "The model refused: I must not."),
        (message("content_filter", content=""), "content_filter", "content filter"),
    ],
    ids=["empty", "in reasoning", "refusal", "filter"],
)
def test_replies_without_tips(
    service: Service, provider: Gateway, db: Engine, behaviour: Behaviour, finish_reason: str, says: str
) -> None:
    """The reason reaches the client and the database through the proxy."""
    provider.script(behaviour)
    answer = generate(service)
    assert (answer.status_code, answer.json()["code"]) == (502, "invalid_reply")
    assert says in answer.json()["detail"]
    assert read_stored(db) == ("invalid_reply", finish_reason, 3, False)


def test_rate_limit_of_the_provider(service: Service, provider: Gateway, db: Engine) -> None:
    """The provider is asked once, and its Retry-After reaches the client."""
    body = json.dumps({"error": {"message": "slow down", "type": "rate_limit"}})
    provider.script(upstream.answer(429, body, **{"retry-after": "17"}))
    answer = generate(service)
    assert (answer.status_code, answer.json()["code"]) == (502, "gateway_error")
    assert "slow down" in answer.json()["detail"]
    assert answer.headers["Retry-After"] == "17"
    assert len(provider.requests) == 1
    assert read_stored(db) == ("gateway_error", None, 1, False)


@pytest.mark.parametrize("response_format", ["json_object", "json_schema"])
def test_response_formats(serve: Serve, provider: Gateway, proxy: Address, response_format: str) -> None:
    """The formats reach the provider as they were sent."""
    key = SecretStr(proxy.key)
    service = serve(litellm_url=proxy.base_url, litellm_master_key=key, llm_response_format=response_format)
    provider.script(upstream.completion(f'{{"tips": {ARRAY}}}'))
    assert generate(service).status_code == 200
    sent: Any = provider.requests[0].body["response_format"]
    assert sent["type"] == response_format
    if response_format == "json_schema":
        assert sent["json_schema"]["strict"] is True
        assert sent["json_schema"]["schema"]["required"] == ["tips"]
