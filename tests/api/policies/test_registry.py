"""The registry of policies over HTTP: what is published can be read, and what cannot work is refused at once."""

import json
from typing import Any

import psycopg
import pytest
from jsonschema_rs import Draft202012Validator
from sqlalchemy import Engine

from tests import calls
from tests.gates import scalar
from tests.serving import Service

BUILT_IN = ["egreedy-v1", "linucb-v1", "pooled-v1", "uniform-v1"]
LABELS = [
    "one",
    "topic=news",
    "topic=sport",
    "tags#0",
    "tags#1",
    "tags#2",
    "tags#3",
    "topic=news x hour_sin",
    "topic=news x hour_cos",
    "topic=sport x hour_sin",
    "topic=sport x hour_cos",
]


def count_policies(db: Engine) -> object:
    """Return the number of published policies."""
    return scalar(db, "SELECT count(*) FROM oo_ml.policies")


def refuse(service: Service, definition: object) -> dict[str, str]:
    """Publish a definition, which is refused; return the problems by place."""
    answer = service.client.post("/policies", json=calls.publish_policy(definition=definition))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text
    assert len(answer.content) < 25_000
    return {".".join(map(str, one["loc"])): one["msg"] for one in answer.json()["detail"]}


def change(**parts: object) -> dict[str, Any]:
    """Return the definition of articles with other parts."""
    return {**calls.DEFINITION, **parts}


def use(one: dict[str, object]) -> dict[str, Any]:
    """Return a definition with one input, of which a term is made."""
    return {"inputs": [one], "terms": [{"input": "a"}], "rule": {}}


def test_built_in_policies(service: Service) -> None:
    """The migrations publish three active policies; the list has them without their definitions, in pages."""
    found = service.client.get("/policies").json()["items"]
    assert sorted(one["policy"] for one in found) == BUILT_IN
    for one in found:
        assert (one["status"], one["retired_at"]) == ("active", None)
        assert one["description"]
        assert "definition" not in one
    first = service.client.get("/policies", params={"limit": 2}).json()
    rest = service.client.get("/policies", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [*first["items"], *rest["items"]] == found
    assert rest["next_cursor"] is None


def test_publishing(service: Service) -> None:
    """A published policy is shown as it was sent, with its dimension and labels, and is the last of the list."""
    published = service.client.post("/policies", json=calls.publish_policy())
    assert published.status_code == 201
    shown = published.json()
    assert shown == {
        **calls.publish_policy(),
        "status": "active",
        "published_at": shown["published_at"],
        "retired_at": None,
        "dimension": 11,
        "labels": LABELS,
        "rule": {"alpha": 1.0, "sigma": 0.3, "exploration": 0.02},
    }
    assert service.client.get(f"/policies/{calls.ARTICLES}").json() == shown
    listed = service.client.get("/policies").json()["items"][-1]
    assert listed == {name: shown[name] for name in listed}


def test_rule_in_effect(service: Service) -> None:
    """The rule of a policy of the contract is that of the settings, whatever its definition says."""
    shown = service.client.get("/policies/egreedy-v1").json()
    assert shown["definition"]["rule"] == {"exploration": 0.1}
    assert shown["rule"] == {"alpha": None, "sigma": 0.0, "exploration": 0.0}


def test_published_name(service: Service) -> None:
    """A second policy with the same name is a 409, and the first one stays."""
    first = service.client.post("/policies", json=calls.publish_policy()).json()
    again = service.client.post("/policies", json=calls.publish_policy(description="Something else"))
    assert (again.status_code, again.json()["code"]) == (409, "policy_exists")
    assert service.client.get(f"/policies/{calls.ARTICLES}").json() == first


@pytest.mark.parametrize("name", ["uniform", "always-first", "greedy", "linucb", "egreedy"])
def test_names_of_targets(service: Service, name: str) -> None:
    """No policy has the name of another target of evaluate; a name that only begins so is free."""
    refused = service.client.post("/policies", json=calls.publish_policy(name))
    assert (refused.status_code, refused.json()["code"]) == (409, "policy_name_reserved")
    assert refused.json()["detail"] == (
        f"No policy can be called {name}: `oo-ml evaluate` has a target of this name; choose another"
    )
    assert service.client.get(f"/policies/{name}").status_code == 404
    assert service.client.post("/policies", json=calls.publish_policy(f"{name}-v9")).status_code == 201


def test_audit_log(service: Service, postgresql: psycopg.Connection[Any]) -> None:
    """Publishing leaves an entry with the name; a refused publication leaves none."""
    for status in (201, 409):
        assert service.client.post("/policies", json=calls.publish_policy()).status_code == status
    refuse(service, {})
    entries = postgresql.execute("SELECT action, subject FROM oo_ml.audit_log").fetchall()
    assert entries == [("policy.published", calls.ARTICLES)]


@pytest.mark.parametrize("policy", ["", "two words", "-v4", "v4/x", "v4\n", "x" * 101, "é"])
def test_invalid_names(service: Service, policy: str) -> None:
    """A name fits into URLs, commands and comma lists."""
    answer = service.client.post("/policies", json=calls.publish_policy(policy))
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "policy"])


def test_unknown_policy(service: Service) -> None:
    """An unknown policy in a path is a 404 in each call."""
    for method, path, body in (
        ("GET", "", None),
        ("GET", "/users/ada", None),
        ("POST", "/score", calls.score_articles()),
        ("POST", "/reward", calls.reward_article()),
    ):
        answer = service.client.request(method, f"/policies/articles-v2{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_policy")


@pytest.mark.parametrize(
    ("definition", "place", "message"),
    [
        (change(inputs=7), "inputs", "list"),
        (change(terms=[]), "terms", "at least 1"),
        (change(rule={"alpha": -1}), "rule.alpha", "greater than or equal to 0"),
        (change(rule={"exploration": 1.5}), "rule.exploration", "less than or equal to 1"),
        (change(rule={"epsilon": 0.1}), "rule.epsilon", "is no part of a definition"),
        (change(colour="red"), "colour", "is no part of a definition"),
        (change(terms=[{"input": "colour"}, *calls.DEFINITION["terms"]]), "terms.0.input", "the inputs: hour"),
        (change(terms=[{"input": "topic"}]), "inputs.0", "add one, or leave the input out"),
        (change(terms=[{"one": True, "input": "hour"}]), "terms.0", "must have one of"),
        (use({"name": "a", "of": "user", "encoding": "boolean"}), "inputs.0.of", "'context' or 'candidate'"),
        (use({"name": "a", "of": "candidate", "encoding": "words"}), "inputs.0.encoding", "hashed"),
        (use({"name": "a", "of": "candidate", "encoding": "number", "min": 1, "max": 1}), "inputs.0.max", "above min"),
        (
            use({"name": "a", "of": "candidate", "encoding": "category", "values": ["x", "x"]}),
            "inputs.0.values",
            "twice",
        ),
        (use({"name": "a", "of": "context", "encoding": "boolean"}), "terms", "same score"),
    ],
)
def test_invalid_definitions(service: Service, db: Engine, definition: object, place: str, message: str) -> None:
    """A definition that cannot work is a 422 that names the place within the body and what to do."""
    problems = refuse(service, definition)
    assert message in problems[f"body.definition.{place}"]
    assert count_policies(db) == len(BUILT_IN)


HOSTILE: dict[str, tuple[str, str]] = {
    "a million buckets": (
        json.dumps(use({"name": "a", "of": "candidate", "encoding": "hashed", "buckets": 1_000_000})),
        "inputs.0.buckets: must be less than or equal to 64",
    ),
    "64 x 64 columns": (
        json.dumps(
            {
                "inputs": [{"name": name, "of": "candidate", "encoding": "hashed", "buckets": 64} for name in "ab"],
                "terms": [{"product": ["a", "b"]}],
                "rule": {},
            }
        ),
        "terms: make 4096 columns, and 64 is the limit",
    ),
    "a hundred thousand inputs": (json.dumps(change(inputs=[{}] * 100_000)), "inputs"),
    "a hundred thousand values": (
        json.dumps(use({"name": "a", "of": "candidate", "encoding": "category", "values": ["x"] * 100_000})),
        "inputs.0.values: must have at most 64 items",
    ),
    "a hundred thousand unknown keys": (
        json.dumps(change(**{f"k{number}": 1 for number in range(100_000)})),
        "k0: is no part of a definition",
    ),
    "a huge key": (json.dumps(change(**{"k" * 1_500_000: 1})), "k" * 100),
    "a huge name": (
        json.dumps(use({"name": "a" * 1_500_000, "of": "candidate", "encoding": "boolean"})),
        "inputs.0.name",
    ),
    "a huge name in a term": (json.dumps(change(terms=[{"input": "a" * 1_500_000}])), "terms.0.input"),
    "an input of its own product": (
        json.dumps(change(terms=[{"product": ["topic", "topic x hour"]}])),
        "terms.0.product: no input has the name",
    ),
    "NaN": ('{"inputs": [], "terms": [{"one": true}], "rule": {"alpha": NaN}}', "finite number"),
    "infinity": ('{"inputs": [], "terms": [{"one": true}], "rule": {"alpha": 1e999}}', "finite number"),
    "a long number": (f'{{"inputs": [], "terms": [{{"one": true}}], "rule": {{"alpha": {"9" * 100_000}}}}}', ""),
    "10,000 deep": (f'{{"inputs": {"[" * 10_000}{"]" * 10_000}}}', "recursion limit"),
    "100 deep": (f'{{"inputs": {"[" * 100}{"]" * 100}}}', "inputs.0"),
    "a text": ('"linucb"', "definition"),
    "null": ("null", "definition"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_definitions(service: Service, db: Engine, kind: str) -> None:
    """A hostile definition is a 422 with a short sentence about one place, and never reaches the table."""
    definition, expected = HOSTILE[kind]
    body = f'{{"policy": "hostile-v1", "definition": {definition}}}'
    answer = service.client.post("/policies", content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert len(answer.content) < 10_000
    told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in answer.json()["detail"])
    assert expected in told
    assert count_policies(db) == len(BUILT_IN)


def test_schema_of_definitions(service: Service) -> None:
    """The served JSON Schema accepts every published definition, and refuses unknown keys and encodings."""
    service.client.post("/policies", json=calls.publish_policy())
    schema = service.client.get("/definition-schema").json()
    validator = Draft202012Validator(schema)
    for one in service.client.get("/policies").json()["items"]:
        definition = service.client.get(f"/policies/{one['policy']}").json()["definition"]
        assert validator.is_valid(definition), one["policy"]
    for wrong in (change(colour="red"), use({"name": "a", "of": "candidate", "encoding": "words"})):
        assert not validator.is_valid(wrong)
