"""The OpenAPI document: every call of the contract, with its body, its answer and an example."""

import re

import pytest

from tests.serving import Service

BODIES = {
    "/score": "ScoreRequest",
    "/score/egreedy": "ScoreRequest",
    "/score/batch": "ScoreBatch",
    "/reward": "RewardRequest",
    "/reward/egreedy": "RewardRequest",
    "/reward/batch": "RewardBatch",
    "/generate": "GenerateRequest",
    "/prompts": "PublishRequest",
}


def test_every_call_of_the_contract_is_documented(service: Service) -> None:
    """None is missing, and each says what it answers."""
    document = service.client.get("/openapi.json").json()
    assert document["paths"].keys() >= {
        *BODIES,
        "/reset/{user_id}",
        "/stats/{user_id}",
        "/stats/egreedy/{user_id}",
        "/features/{user_id}",
        "/health",
        "/prompts/{version}",
        "/users/{user_id}",
        "/users/{user_id}/export",
    }
    for path, methods in document["paths"].items():
        for operation in methods.values():
            success = next(status for status in operation["responses"] if status.startswith("2"))
            assert "$ref" in operation["responses"][success]["content"]["application/json"]["schema"], path


@pytest.mark.parametrize(("path", "model"), BODIES.items())
def test_bodies_are_described_though_the_routes_parse_them(service: Service, path: str, model: str) -> None:
    """Every reference resolves, and the example is accepted by the call itself."""
    document = service.client.get("/openapi.json").json()
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": f"#/components/schemas/{model}"}
    assert "properties" in document["components"]["schemas"][model]


@pytest.mark.parametrize(("path", "model"), [(path, model) for path, model in BODIES.items() if path[1] in "sr"])
def test_examples_work(service: Service, path: str, model: str) -> None:
    """What the documentation shows can be sent as it stands, and each item of a batch is accepted."""
    [example] = service.client.get("/openapi.json").json()["components"]["schemas"][model]["examples"]
    answer = service.client.post(path, json=example)
    assert answer.status_code == 200
    assert {outcome["status"] for outcome in answer.json().get("outcomes", [])} <= {200}


@pytest.mark.parametrize(
    "model",
    [
        "ScoreBatchAnswer",
        "RewardBatchAnswer",
        "CorrectionRequest",
        "RewardAnswer",
        "ReceiptAnswer",
        "VerifyAnswer",
        "EraseAnswer",
        "ExportAnswer",
    ],
)
def test_what_is_said_of_a_person_has_an_example(service: Service, model: str) -> None:
    """With fields that there are; the document leaves out those that are null."""
    schema = service.client.get("/openapi.json").json()["components"]["schemas"][model]
    assert schema["examples"]
    for example in schema["examples"]:
        assert example.keys() <= schema["properties"].keys()


def test_the_page_needs_nothing_from_elsewhere(service: Service) -> None:
    """Its script, style and icon come from the service: it works where nothing else can be reached."""
    page = service.client.get("/docs").text
    named = re.findall(r'(?:src|href|url: )=?\s*["\']([^"\']+)["\']', page)
    assert len(named) >= 4
    for address in named:
        assert address.startswith("/")
        assert service.client.get(address).status_code == 200
