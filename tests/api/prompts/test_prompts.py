"""The prompt registry over HTTP."""

from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

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
PARAMETERS = {
    "model": "big",
    "temperature": 0.25,
    "max_tokens": 500,
    "response_format": "json_schema",
    "stop": ["END", "é\n"],
}
NO_PARAMETERS = dict.fromkeys(PARAMETERS)


def test_first_versions(service: Service) -> None:
    """The migrations publish three active versions; the list has their descriptions without their templates."""
    prompts = service.client.get("/prompts").json()["items"]
    assert [prompt["version"] for prompt in prompts] == ["v1", "v2-mentor", "v3-few-shot"]
    for prompt in prompts:
        assert (prompt["status"], prompt["weight"], prompt["retired_at"]) == ("active", 0.0, None)
        assert prompt["description"]
        assert "system_template" not in prompt
        assert prompt == {**prompt, **NO_PARAMETERS}


def test_publishing(serve: Serve, gateway: Gateway) -> None:
    """A published version can be read, and the next call renders it from the context."""
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


def test_parameters(service: Service, db: Engine) -> None:
    """Model and parameters are published with a version, shown, listed, and never change."""
    published = service.client.post("/prompts", json={**DRAFT, **PARAMETERS})
    assert published.json() == {**published.json(), **DRAFT, **PARAMETERS}
    assert service.client.get("/prompts/v4-short").json() == published.json()
    assert service.client.get("/prompts").json()["items"][-1] == {
        name: value for name, value in published.json().items() if not name.endswith("_template")
    }
    for change in ("model = NULL", "temperature = 1", "max_tokens = 1", "response_format = NULL", "stop = '{a}'"):
        with pytest.raises(IntegrityError, match="never change"), writing(db) as connection:
            connection.execute(text(f"UPDATE oo_ml.prompt_versions SET {change}"))  # noqa: S608 - words of ours


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": ""},
        {"model": "a\nb"},
        {"model": "x" * 201},
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": "1"},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"response_format": "xml"},
        {"stop": []},
        {"stop": [""]},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"stop": ["a\0"]},
        {"stop": "END"},
    ],
    ids=str,
)
def test_invalid_parameters(service: Service, db: Engine, wrong: dict[str, object]) -> None:
    """A parameter that no model could be sent is refused with its name."""
    refused = service.client.post("/prompts", json={**DRAFT, **wrong})
    assert (refused.status_code, refused.json()["detail"][0]["loc"][1]) == (422, next(iter(wrong)))
    assert scalar(db, "SELECT count(*) FROM oo_ml.prompt_versions") == 3


def test_published_name(service: Service) -> None:
    """A second version with the same name is a 409, and the first one stays."""
    service.client.post("/prompts", json=DRAFT)
    again = service.client.post("/prompts", json={**DRAFT, "system_template": "Something else"})
    assert (again.status_code, again.json()["code"]) == (409, "prompt_version_exists")
    assert service.client.get("/prompts/v4-short").json()["system_template"] == DRAFT["system_template"]


@pytest.mark.parametrize(
    "template",
    ["{{ n", "{% for t in tasks %}", "{{ nonsense }}", "{{ n.__class__ }}", "{% include 'x' %}", "{{ range(9) }}", " "],
)
@pytest.mark.parametrize("field", ["system_template", "user_template"])
def test_invalid_templates(service: Service, db: Engine, field: str, template: str) -> None:
    """A template that can't be rendered is refused when it is published, with the name of its field."""
    refused = service.client.post("/prompts", json={**DRAFT, field: template})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_template")
    assert refused.json()["detail"].startswith(field)
    assert scalar(db, "SELECT count(*) FROM oo_ml.prompt_versions") == 3


@pytest.mark.parametrize("version", ["", "two words", "-v4", "v4/x", "v4\n", "x" * 101, "é"])
def test_invalid_names(service: Service, version: str) -> None:
    """A name fits into settings, comma lists and URLs."""
    assert service.client.post("/prompts", json={**DRAFT, "version": version}).status_code == 422


def test_reserved_name(service: Service, db: Engine) -> None:
    """No version can be named auto, because TIP_PROMPT_VERSION=auto has a meaning of its own."""
    refused = service.client.post("/prompts", json={**DRAFT, "version": "auto"})
    assert (refused.status_code, refused.json()["code"]) == (409, "prompt_version_reserved")
    assert "TIP_PROMPT_VERSION" in refused.json()["detail"]
    assert scalar(db, "SELECT count(*) FROM oo_ml.prompt_versions") == 3


def test_weight_and_status(service: Service, db: Engine) -> None:
    """Calls show the current weight and status of a version."""
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.prompt_versions SET weight = 0.3 WHERE version = 'v2-mentor'"))
        connection.execute(
            text("UPDATE oo_ml.prompt_versions SET status = 'retired', retired_at = now() WHERE version = 'v1'")
        )
    shown = [service.client.get(f"/prompts/{version}").json() for version in ("v1", "v2-mentor", "v3-few-shot")]
    listed = service.client.get("/prompts").json()["items"]
    for prompts in (shown, listed):
        assert [(one["status"], one["weight"]) for one in prompts] == [("retired", 0), ("active", 0.3), ("active", 0)]


def test_unknown_version(service: Service) -> None:
    """An unknown version in a path is a 404."""
    answer = service.client.get("/prompts/v9")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_prompt_version")


def _messages(gateway: Gateway) -> Any:  # noqa: ANN401 - JSON
    return gateway.requests[-1].body["messages"]
