"""The prompt registry over HTTP: what is published is there, renders, and never changes."""

from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests import gateway as behave
from tests.conftest import Serve
from tests.gates import scalar
from tests.gateway import Gateway
from tests.serving import Service
from tests.sessions import writing

DRAFT = {
    "version": "v4-short",
    "description": "As few words as possible.",
    "system_template": "Write {{ n }} tips of three words, as a JSON array.",
    "user_template": "It is {{ hour_of_day }}. {% for task in tasks %}{{ task.title }}; {% endfor %}",
}


def test_the_first_versions_are_there_from_the_start(service: Service) -> None:
    """Active, described, and without their text in the list."""
    prompts = service.client.get("/prompts").json()["items"]
    assert [prompt["version"] for prompt in prompts] == ["v1", "v2-mentor", "v3-few-shot"]
    for prompt in prompts:
        assert (prompt["status"], prompt["weight"], prompt["retired_at"]) == ("active", 0.0, None)
        assert prompt["description"]
        assert "system_template" not in prompt


def test_a_published_version_can_be_read_and_used(serve: Serve, gateway: Gateway) -> None:
    """In the next call, rendered from the context."""
    gateway.script(behave.tips("Drink water."))
    client = serve(litellm_url=gateway.url).client
    published = client.post("/prompts", json=DRAFT)
    assert published.status_code == 201
    assert published.json() == {**published.json(), **DRAFT, "status": "active", "weight": 0.0}
    assert client.get("/prompts/v4-short").json() == published.json()
    body = {
        "user_id": "ada",
        "context": {"hour_of_day": 7, "tasks": [{"title": "Call Bo"}]},
        "n": 1,
        "prompt_version": "v4-short",
    }
    assert client.post("/generate", json=body).json()["prompt_version"] == "v4-short"
    assert [message["content"] for message in _messages(gateway)] == [
        "Write 1 tips of three words, as a JSON array.",
        "It is 7. Call Bo; ",
    ]


def test_a_name_is_published_once(service: Service) -> None:
    """The second text is refused, even if it is the same; the first one stays."""
    service.client.post("/prompts", json=DRAFT)
    again = service.client.post("/prompts", json={**DRAFT, "system_template": "Something else"})
    assert (again.status_code, again.json()["code"]) == (409, "prompt_version_exists")
    assert service.client.get("/prompts/v4-short").json()["system_template"] == DRAFT["system_template"]


@pytest.mark.parametrize(
    "template",
    ["{{ n", "{% for t in tasks %}", "{{ nonsense }}", "{{ n.__class__ }}", "{% include 'x' %}", "{{ range(9) }}", " "],
)
@pytest.mark.parametrize("field", ["system_template", "user_template"])
def test_a_template_that_does_not_render_is_refused(service: Service, db: Engine, field: str, template: str) -> None:
    """When it is published, not when it is used; the answer names the field."""
    refused = service.client.post("/prompts", json={**DRAFT, field: template})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_template")
    assert refused.json()["detail"].startswith(field)
    assert scalar(db, "SELECT count(*) FROM oo_ml.prompt_versions") == 3


@pytest.mark.parametrize("version", ["", "two words", "-v4", "v4/x", "v4\n", "x" * 101, "é"])
def test_a_name_is_plain(service: Service, version: str) -> None:
    """It stands in settings, in comma lists and in URLs."""
    assert service.client.post("/prompts", json={**DRAFT, "version": version}).status_code == 422


def test_no_version_can_be_called_auto(service: Service, db: Engine) -> None:
    """TIP_PROMPT_VERSION=auto would not mean it."""
    refused = service.client.post("/prompts", json={**DRAFT, "version": "auto"})
    assert (refused.status_code, refused.json()["code"]) == (409, "prompt_version_reserved")
    assert "TIP_PROMPT_VERSION" in refused.json()["detail"]
    assert scalar(db, "SELECT count(*) FROM oo_ml.prompt_versions") == 3


def test_weight_and_status_are_shown(service: Service, db: Engine) -> None:
    """As somebody has set them since."""
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.prompt_versions SET weight = 0.3 WHERE version = 'v2-mentor'"))
        connection.execute(
            text("UPDATE oo_ml.prompt_versions SET status = 'retired', retired_at = now() WHERE version = 'v1'")
        )
    shown = [service.client.get(f"/prompts/{version}").json() for version in ("v1", "v2-mentor", "v3-few-shot")]
    listed = service.client.get("/prompts").json()["items"]
    for prompts in (shown, listed):
        assert [(one["status"], one["weight"]) for one in prompts] == [("retired", 0), ("active", 0.3), ("active", 0)]


def test_an_unknown_version_is_a_404(service: Service) -> None:
    """In a path it is the thing asked for; in a body it is a mistake in it."""
    answer = service.client.get("/prompts/v9")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_prompt_version")


def _messages(gateway: Gateway) -> Any:  # noqa: ANN401 - JSON
    return gateway.requests[-1].body["messages"]
