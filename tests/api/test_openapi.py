"""The OpenAPI document: calls, bodies, answers, errors and examples."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema_rs import meta

from oo_ml.api import error_statuses
from tests import calls, openapi
from tests.serving import Service

DOCUMENT = openapi.document()
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = {one["operationId"]: one for methods in DOCUMENT["paths"].values() for one in methods.values()}
# Calls whose answer has no schema.
NOT_JSON = {"exportUser", "getMetrics"}
SENT = ["ScoreRequest", "ScoreBatch", "RewardRequest", "RewardBatch"]


def test_served_document(service: Service) -> None:
    """The service serves the document that these tests check."""
    assert service.client.get("/openapi.json").json() == DOCUMENT


def test_operations() -> None:
    """Every call has an operationId, a summary, and a named schema for success."""
    assert DOCUMENT["paths"].keys() >= {
        "/score",
        "/score/egreedy",
        "/reward",
        "/reward/egreedy",
        "/reset/{user_id}",
        "/stats/{user_id}",
        "/stats/egreedy/{user_id}",
        "/features/{user_id}",
        "/generate",
        "/health",
    }
    assert len(OPERATIONS) == sum(map(len, DOCUMENT["paths"].values()))
    assert OPERATIONS.keys() == {*calls.EVERY, "getDefinitionSchema", "getHealth", "getLiveness", "getMetrics"}
    for name, operation in OPERATIONS.items():
        [success] = [response for status, response in operation["responses"].items() if status.startswith("2")]
        if name not in NOT_JSON:
            assert success["content"]["application/json"]["schema"].keys() == {"$ref"}, name
        assert operation["summary"], name


def test_references() -> None:
    """Every reference resolves, every schema is used, and no schema has the name of a Python generic."""
    used: set[str] = set()
    new = references(DOCUMENT["paths"])
    while new:
        used |= new
        new = {name for one in new for name in references(SCHEMAS[one])} - used
    assert used == SCHEMAS.keys()
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", name) for name in SCHEMAS)


def references(part: object) -> set[str]:
    """The names of the schemas that a part of the document refers to."""
    return set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(part)))


def test_schemas() -> None:
    """Every schema is valid JSON Schema 2020-12, as OpenAPI 3.1 requires."""
    assert DOCUMENT["openapi"].startswith("3.1")
    for schema in SCHEMAS.values():
        meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def examples(part: object, schema: dict[str, Any] | None = None) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield every example and every default in a part of the document, with the schema that it is of."""
    match part:
        case dict():
            own = part["schema"] if isinstance(part.get("schema"), dict) else part if schema is None else schema
            match part.get("examples"):
                case list(values):
                    yield from ((value, own) for value in values)
                case dict(named):
                    yield from ((one["value"], own) for one in named.values())
            if "default" in part:
                yield part["default"], part
            for name, inner in part.items():
                if name not in {"examples", "default"}:
                    yield from examples(inner)
        case list():
            for inner in part:
                yield from examples(inner)


def test_examples() -> None:
    """Every example and default is valid for its schema."""
    found = list(examples(DOCUMENT))
    assert len(found) > 100
    assert any("difference" in value and value["difference"] is None for value, _ in found if isinstance(value, dict))
    for value, schema in found:
        openapi.validator({key: inner for key, inner in schema.items() if key != "examples"}).validate(value)


@pytest.mark.parametrize("model", SENT)
def test_examples_of_requests(service: Service, model: str) -> None:
    """The example of a request is accepted as it stands, with each item of a batch."""
    path = {"S": "/score", "R": "/reward"}[model[0]] + ("/batch" if model.endswith("Batch") else "")
    [example] = SCHEMAS[model]["examples"]
    answer = service.client.post(path, json=example)
    assert answer.status_code == 200
    assert {outcome["status"] for outcome in answer.json().get("outcomes", [])} <= {200}


@pytest.mark.parametrize(
    "model",
    [
        *SENT,
        "ScoreBatchAnswer",
        "RewardBatchAnswer",
        "CorrectionRequest",
        "RewardAnswer",
        "ReceiptAnswer",
        "VerifyAnswer",
        "EraseAnswer",
        "PublishPolicyRequest",
        "PolicyScoreRequest",
        "PolicyRewardRequest",
        "PolicyUserAnswer",
    ],
)
def test_bodies_with_examples(model: str) -> None:
    """Each large body has an example."""
    assert SCHEMAS[model]["examples"]


def test_enums() -> None:
    """Reactions, checks and codes are schemas of their own, with every value."""
    assert SCHEMAS["ProblemCode"]["enum"] == list(error_statuses.CODES)
    for model, fields in {
        "DecisionSummary": {"reaction": "Reaction"},
        "LoopHealth": {"check": "Check"},
        "Problem": {"code": "ProblemCode"},
    }.items():
        for field, name in fields.items():
            assert SCHEMAS[model]["properties"][field]["$ref"] == f"#/components/schemas/{name}"


def test_enum_of_checks(service: Service) -> None:
    """The enum has every check of a service that has decided by both policies."""
    for suffix in ("", "/egreedy"):
        service.client.post(f"/score{suffix}", json=calls.score())
    found = service.client.get("/analytics/loop-health").json()["items"]
    assert {item["check"] for item in found} == set(SCHEMAS["Check"]["enum"])


def test_discriminator_of_outcomes() -> None:
    """Outcomes have a text as discriminator, because generators expect texts."""
    for model, done in (("ScoreBatchAnswer", "ScoreDone"), ("RewardBatchAnswer", "RewardDone")):
        outcome = SCHEMAS[model]["properties"]["outcomes"]["items"]
        mapping = {"done": f"#/components/schemas/{done}", "refused": "#/components/schemas/Refusal"}
        assert outcome["discriminator"] == {"propertyName": "kind", "mapping": mapping}
        for kind, schema in (("done", done), ("refused", "Refusal")):
            assert SCHEMAS[schema]["properties"]["kind"]["const"] == kind
            assert "kind" in SCHEMAS[schema]["required"]


def test_required_fields_of_answers() -> None:
    """A field of an answer is optional only if the service may leave it out, and then it is never null."""
    optional = {
        (name, field)
        for name in answers()
        for field, schema in SCHEMAS[name].get("properties", {}).items()
        if field not in SCHEMAS[name].get("required", [])
    }
    assert optional == {
        ("GeneratedCandidate", "rationale"),
        ("ReceiptCandidate", "source"),
        ("ShownFeatures", "day_of_week"),
        ("ShownFeatures", "exploring"),
    }
    assert all("anyOf" not in SCHEMAS[name]["properties"][field] for name, field in optional)


def answers() -> set[str]:
    """The names of the schemas that answers are made of."""
    found = references([one["responses"] for one in OPERATIONS.values()])
    while (more := found | {name for one in found for name in references(SCHEMAS[one])}) != found:
        found = more
    return found


def test_defaults_of_requests() -> None:
    """Defaults stand in descriptions only: generators take a declared default for a field that is always sent."""
    for schema in SCHEMAS.values():
        assert not any("default" in field for field in schema.get("properties", {}).values())
    assert SCHEMAS["Candidate"]["required"] == ["id", "source"]
    assert "required" not in SCHEMAS["TaskFeatures"]
    assert SCHEMAS["TaskFeatures"]["properties"]["hour_of_day"]["description"].endswith("Default: 12")


def test_paging() -> None:
    """Every list takes limit and cursor, and returns items and next_cursor."""
    pages = set()
    for name, operation in OPERATIONS.items():
        if name in NOT_JSON:
            continue
        taken = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
        given = SCHEMAS[
            operation["responses"]
            .get("200", operation["responses"].get("201"))["content"]["application/json"]["schema"]["$ref"]
            .rpartition("/")[2]
        ]["properties"]
        assert not taken & {"offset", "before", "page"}
        assert ({"limit", "cursor"} <= taken) == (given.keys() == {"items", "next_cursor"}), name
        pages |= {name} if "cursor" in taken else set()
    assert pages == {
        "listDecisions",
        "listPolicies",
        "listPriors",
        "listPrompts",
        "getReactionRates",
        "getPolicyValues",
        "getRewardsByDay",
        "getPolicyLift",
        "getPolicyTrafficByDay",
        "getLearningCurve",
        "getPriorHistory",
        "getLearningByPrior",
        "getPromptCosts",
        "getLoopHealth",
    }


def test_documentation_page(service: Service) -> None:
    """The page at /docs loads its script, style and icon from the service alone."""
    page = service.client.get("/docs").text
    named = re.findall(r'(?:src|href|url: )=?\s*["\']([^"\']+)["\']', page)
    assert len(named) >= 4
    for address in named:
        assert address.startswith("/")
        assert service.client.get(address).status_code == 200
