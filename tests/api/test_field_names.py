"""Field names: misspelled ones are refused with the right one; calls of the contract ignore other unknown ones."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from oo_ml.api.decisions.batch_schemas import Batch, PolicyRewardItem, PolicyScoreItem
from oo_ml.api.schemas import Body, ContractBody
from tests import calls
from tests import gateway as behave
from tests.api.decisions.decisions import new_id
from tests.api.full_bodies import BODIES, CANDIDATE, DECISION, REWARD, Place, change_field, places, send
from tests.api.prompts.test_generate import GOOD
from tests.conftest import Serve
from tests.gateway import Gateway
from tests.rows import everything
from tests.serving import Service

CONTRACT = ("/score", "/score/egreedy", "/reward", "/reward/egreedy", "/generate")
SPELLINGS: dict[str, Callable[[str], str]] = {
    "camelCase": lambda name: "".join(part.title() if place else part for place, part in enumerate(name.split("_"))),
    "PascalCase": lambda name: name.title().replace("_", ""),
    "kebab-case": lambda name: name.replace("_", "-"),
    "SHOUTED": str.upper,
    "squeezed": lambda name: name.replace("_", ""),
    "decorated": lambda name: f"__{name}-",
}


@pytest.fixture
def service(serve: Serve, gateway: Gateway) -> Service:
    """The service, with a gateway that writes good tips."""
    gateway.script(behave.completion(GOOD))
    return serve(epsilon=0, litellm_url=gateway.url)


def test_bodies_of_this_module() -> None:
    """The bodies have every field of every request model, so that a new field is tested too."""
    models, found = set(), set()
    for model, body in BODIES.values():
        for owner, place in places(model, body):
            models.add(owner)
            found.add((owner, place[-1]))
    assert {(model, name) for model in models for name in model.model_fields} == found

    def below(base: type[Body]) -> Iterator[type[Body]]:
        for model in base.__subclasses__():
            yield model
            yield from below(model)

    abstract = {ContractBody, *(model for model in below(Body) if model.__name__.startswith("Batch"))}
    assert set(below(Body)) - abstract == models
    assert Batch in abstract


@pytest.mark.parametrize("path", BODIES)
def test_misspelled_fields(service: Service, db: Engine, path: str, subtests: pytest.Subtests) -> None:
    """A misspelled field is a 422 with the right name and changes nothing; other items of a batch are carried out."""
    model, body = BODIES[path]
    before = everything(db)
    for owner, place in places(model, body):
        right = str(place[-1])
        for kind, spelling in SPELLINGS.items():
            wrong = spelling(right)
            if wrong == right or (owner in {PolicyScoreItem, PolicyRewardItem} and right == "policy"):
                # An item without a policy has the fields of the contract.
                continue
            with subtests.test(f"{place}, {kind}"):
                answer = send(service, path, change_field(body, place, wrong))
                problem, location = answer.json(), list(place[:-1])
                if "batch" in path and location:
                    assert answer.status_code == 200
                    index = location[1]
                    assert isinstance(index, int)
                    refused = answer.json()["outcomes"][index]
                    assert refused["status"] == 422
                    assert answer.json()["outcomes"][index - 1]["status"] != 422
                    problem, location = refused["error"], location[2:]
                else:
                    assert answer.status_code == 422
                assert owner.model_fields[right]
                assert problem["detail"] == [
                    {"loc": ["body", *location, wrong], "msg": f"unknown field: use {right}", "type": "misspelled"}
                ]
                assert problem["code"] == "invalid"
    if "batch" not in path:
        assert everything(db) == before


@pytest.mark.parametrize("path", BODIES)
def test_misspelled_field_beside_the_right_one(service: Service, path: str) -> None:
    """A misspelled field beside the right one is refused, because it is unclear which value counts."""
    model, body = BODIES[path]
    _, place = next(places(model, body))
    wrong = str(place[-1]).title()
    assert wrong != place[-1]
    answer = send(service, path, body | {wrong: 1})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", wrong]


def add_unknown_fields(model: type[Body], body: dict[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield a body with an unknown field for each of its objects, and where that is."""
    for place in {place[:-1]: place for _, place in places(model, body)}.values():
        yield (*place[:-1], "colour"), change_field(body, place, "colour", {"user-id": "x"})


@pytest.mark.parametrize("path", CONTRACT)
def test_unknown_fields_of_the_contract(service: Service, path: str) -> None:
    """Calls of the contract ignore unknown fields at every level, also when a call is repeated."""
    model, body = BODIES[path]
    if path.startswith("/reward"):
        body = REWARD | {"decision_id": service.client.post("/score", json=calls.score()).json()["decision_id"]}
    plain = send(service, path, body)
    assert plain.status_code == 200
    for _, other in add_unknown_fields(model, body):
        answer = send(service, path, other)
        assert answer.status_code == 200, answer.text
        if path.startswith("/score"):
            assert answer.content == plain.content
        if path.startswith("/reward"):
            assert answer.json()["applied"] is False


def test_unknown_field_beside_an_idempotency_key(service: Service) -> None:
    """A reward repeated with an unknown field more is the same call."""
    headers = {"Idempotency-Key": "k"}
    for body, applied in ((REWARD, True), (REWARD | {"colour": "red"}, False)):
        answer = service.client.post("/reward", json=body, headers=headers)
        assert (answer.status_code, answer.json().get("applied")) == (200, applied)


@pytest.mark.parametrize("path", [path for path in BODIES if path not in CONTRACT])
def test_unknown_fields_of_other_calls(service: Service, db: Engine, path: str, subtests: pytest.Subtests) -> None:
    """Other calls refuse unknown fields at every level; in a batch only the item is refused."""
    model, body = BODIES[path]
    before = everything(db)
    for place, other in add_unknown_fields(model, body):
        with subtests.test(str(place)):
            answer = send(service, path, other)
            problem, location = answer.json(), list(place)
            if "batch" in path and len(place) > 1:
                assert answer.status_code == 200
                problem, location = answer.json()["outcomes"][int(place[1])]["error"], location[2:]
            else:
                assert answer.status_code == 422
                assert everything(db) == before or "batch" in path
            assert problem["detail"] == [
                {"loc": ["body", *location], "msg": "unknown field", "type": "extra_forbidden"}
            ]


def test_other_errors_beside_a_misspelled_field(service: Service) -> None:
    """Other errors are reported too, except missing fields, which may be the misspelled ones."""
    body = {"userId": "ada", "tip_id": "", "reward": 2, "decisionId": new_id(), "colour": "red"}
    answer = service.client.post("/reward", json=body)
    assert {tuple(problem["loc"][1:]): problem["type"] for problem in answer.json()["detail"]} == {
        ("userId",): "misspelled",
        ("decisionId",): "misspelled",
        ("tip_id",): "string_too_short",
        ("reward",): "less_than_equal",
    }
    answer = service.client.put(f"/users/ada/decisions/{new_id()}/reward", json={"value": 1})
    assert {tuple(problem["loc"][1:]): problem["type"] for problem in answer.json()["detail"]} == {
        ("value",): "extra_forbidden",
        ("reward",): "missing",
    }


def test_misspelled_field_of_the_last_candidate(service: Service) -> None:
    """Every candidate is checked, even after one with an unknown field, which is ignored."""
    candidates = [{**CANDIDATE, "colour": "red"} for _ in range(1000)]
    assert service.client.post("/score", json=calls.score(candidates=candidates)).status_code == 200
    candidates[999]["promptVersion"] = "v1"
    answer = service.client.post("/score", json=calls.score(candidates=candidates))
    assert [problem["loc"] for problem in answer.json()["detail"]] == [["body", "candidates", 999, "promptVersion"]]


@pytest.mark.parametrize("path", ["/score", "/score/batch", "/prompts"])
@pytest.mark.parametrize(
    "names",
    [[f"User-{'_' * 1_000_000}id"], [f"{'-' * number}Items" for number in range(1, 1500)]],
    ids=["long", "many"],
)
def test_size_of_errors(service: Service, path: str, names: list[str]) -> None:
    """An error stays small, however long and however many the unknown names are."""
    answer = service.client.post(path, content=json.dumps(dict.fromkeys(names, 1)))
    assert answer.status_code == 422
    assert len(answer.content) < 25_000


# Queries

QUERIES = [
    ("GET", "/analytics/reaction-rates", {"promptVersion": "prompt_version", "Since": "since", "BY": "by"}),
    ("GET", "/analytics/reaction-rates.csv", {"prompt-version": "prompt_version", "lim_it": None}),
    ("GET", "/analytics/learning-curve", {"Limit": "limit", "by": None}),
    ("GET", "/analytics/prompt-costs.csv", {"limit": None}),
    ("GET", "/analytics/filters", {"policy": None}),
    ("GET", "/users/ada/decisions", {"Cursor": "cursor", "offset": None}),
    ("GET", DECISION, {"x": None}),
    ("DELETE", f"{DECISION}/reward", {"x": None}),
    ("GET", "/users/ada/verify", {"x": None}),
    ("GET", "/users/ada/export", {"x": None}),
    ("DELETE", "/users/ada", {"dry_run": None}),
    ("GET", "/prompts", {"x": None}),
    ("GET", "/prompts/v1", {"x": None}),
    ("POST", "/score/batch", {"x": None}),
]


@pytest.mark.parametrize(("method", "path", "query"), QUERIES, ids=[f"{method} {path}" for method, path, _ in QUERIES])
def test_unknown_query_parameters(
    service: Service, db: Engine, method: str, path: str, query: dict[str, str | None]
) -> None:
    """Calls outside the contract refuse them, name the right parameter if one is similar, and change nothing."""
    service.client.post("/score", json=calls.score())
    before = everything(db)
    answer = service.client.request(method, path, params=dict.fromkeys(query, "1"))
    assert answer.status_code == 422
    assert answer.json() == {
        "code": "invalid",
        "detail": [
            {"loc": ["query", name], "msg": "unknown parameter", "type": "extra_forbidden"}
            if right is None
            else {"loc": ["query", name], "msg": f"unknown parameter: use {right}", "type": "misspelled"}
            for name, right in query.items()
        ],
        "request_id": answer.headers["X-Request-ID"],
    }
    assert everything(db) == before


def test_calls_that_accept_unknown_query_parameters(service: Service) -> None:
    """Only the contract's calls, the probes and /metrics ignore unknown parameters, which monitors may add."""
    lenient = set()
    for path, methods in service.client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            here = path.replace("{decision_id}", new_id()).replace("{user_id}", "ada").replace("{version}", "v1")
            answer = service.client.request(method, here, params={"_": "1"}, content=b"{}")
            if answer.status_code != 422 or answer.json()["detail"][0]["loc"] != ["query", "_"]:
                lenient.add(path)
    assert lenient == {
        *CONTRACT,
        "/reset/{user_id}",
        "/stats/{user_id}",
        "/stats/egreedy/{user_id}",
        "/features/{user_id}",
        "/health",
        "/livez",
        "/readyz",
        "/metrics",
    }
