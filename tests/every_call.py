"""Every call of the API, made once, in an order in which each succeeds."""

from typing import Any

from tests import calls
from tests import gateway as behave
from tests.gateway import Gateway
from tests.serving import Service

REPORTS = (
    "reaction-rates",
    "policy-values",
    "policy-lift",
    "policy-traffic-by-day",
    "rewards-by-day",
    "learning-curve",
    "prior-history",
    "learning-by-prior",
    "prompt-costs",
    "loop-health",
    "filters",
)


def make_every_call(service: Service, gateway: Gateway) -> None:
    """Make every call of the OpenAPI document, and assert that each succeeds and that none is missing."""
    tried: set[tuple[str, str]] = set()

    def call(method: str, path: str, json: object = None, **parts: str) -> Any:  # noqa: ANN401 - JSON
        answer = service.client.request(method, path.format(**parts), json=json)
        assert answer.status_code in {200, 201}, (method, path, answer.text)
        tried.add((method.lower(), path))
        return answer.json() if answer.headers["Content-Type"] == "application/json" else answer.text

    gateway.script(behave.tips("Drink water."))
    ada = {"user_id": "ada"}
    for policy in ("", "/egreedy"):
        call("POST", f"/score{policy}", calls.score())
        call("POST", f"/reward{policy}", calls.reward())
    for path, item in (("/score/batch", calls.score()), ("/reward/batch", calls.reward())):
        [outcome] = call("POST", path, {"items": [item]})["outcomes"]
        assert outcome["status"] == 200, outcome
    call("POST", "/generate", {"user_id": "ada", "context": {}, "n": 1})
    call("POST", "/prompts", {"version": "v9", "system_template": "Be brief.", "user_template": "{{ n }} tips."})
    call("GET", "/prompts/{version}", version="v9")
    call("POST", "/policies", calls.publish_policy())
    articles = {"policy": calls.ARTICLES}
    call("GET", "/policies/{policy}", **articles)
    call("POST", "/policies/{policy}/score", calls.score_articles(), **articles)
    call("POST", "/policies/{policy}/reward", calls.reward_article(), **articles)
    call("GET", "/policies/{policy}/users/{user_id}", **articles, **ada)
    call("GET", "/policies/{policy}/priors", **articles)
    for path in ("/policies", "/definition-schema", "/prompts", "/livez", "/health", "/readyz", "/metrics"):
        call("GET", path)
    for path in ("/stats/{user_id}", "/stats/egreedy/{user_id}", "/features/{user_id}", "/users/{user_id}/verify"):
        call("GET", path, **ada)
    for report in REPORTS:
        call("GET", f"/analytics/{report}")
    [decision, *_] = call("GET", "/users/{user_id}/decisions", **ada)["items"]
    one = {**ada, "decision_id": decision["decision_id"]}
    call("GET", "/users/{user_id}/decisions/{decision_id}", **one)
    call("PUT", "/users/{user_id}/decisions/{decision_id}/reward", {"reward": 0.5}, **one)
    call("DELETE", "/users/{user_id}/decisions/{decision_id}/reward", **one)
    call("POST", "/reset/{user_id}", **ada)
    call("GET", "/users/{user_id}/export", **ada)
    call("DELETE", "/users/{user_id}", **ada)
    paths = service.client.get("/openapi.json").json()["paths"]
    assert tried == {(method, path) for path, methods in paths.items() for method in methods}
