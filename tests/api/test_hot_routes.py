"""The hot calls, answered the same with and without FastAPI."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from oo_ml.api.access.browsers import BrowserChecks
from oo_ml.api.access.guard import Guard
from oo_ml.api.exchanges import Observed
from oo_ml.api.hot_routes import HotRoutes
from oo_ml.dashboard.sessions import Sessions
from tests import calls
from tests.serving import Service

OF_POLICIES = ["/policies/uniform-v1/score", "/policies/uniform-v1/reward"]
HOT = ["/score", "/score/egreedy", "/reward", "/reward/egreedy", *OF_POLICIES]
GOOD = {
    "/score": calls.score(),
    "/score/egreedy": calls.score(),
    "/reward": calls.reward(),
    "/reward/egreedy": calls.reward(),
    # One candidate, as it is drawn at random.
    "/policies/uniform-v1/score": calls.score_articles(candidates=[{"id": "a1"}]),
    "/policies/uniform-v1/reward": calls.reward_article(),
}
# An error has the id of its request.
HEADERS = {"Content-Type": "application/json", "X-Request-ID": "r-17"}
BAD: list[Any] = [{}, [], {"user_id": "a\0b"}, {"user_id": 7, "candidates": 1, "tip_id": ""}]


def call_without_length(service: Service, path: str, content: bytes, **headers: str) -> httpx.Response:
    """A call whose length is not announced, which is what the shortcut leaves to FastAPI."""

    def chunks() -> Iterator[bytes]:
        yield content

    return service.client.post(path, content=chunks(), headers={**HEADERS, **headers})


def call_with_length(service: Service, path: str, content: bytes, **headers: str) -> httpx.Response:
    """Send the call with its length, as every client does."""
    return service.client.post(path, content=content, headers={**HEADERS, **headers})


@pytest.mark.parametrize(
    ("method", "content", "status"), [("POST", b"0123456789", 200), ("POST", b"0123456789+", 413), ("GET", b"", 404)]
)
def test_shortcut(method: str, content: bytes, status: int) -> None:
    """A hot path is answered without FastAPI, which does not know it here."""

    async def endpoint(request: Request) -> Response:
        return Response(await request.body())

    async def call() -> httpx.Response:
        hot = HotRoutes(FastAPI(), {"/hot": endpoint}, {}, max_body=10)
        guarded = Guard(hot, BrowserChecks((), ()), keys=None, sessions=Sessions("secret"), limit=None)
        transport = httpx.ASGITransport(Observed(guarded, []))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, "/hot", content=content)

    answer = asyncio.run(call())
    assert answer.status_code == status
    assert (answer.content == content) == (status == 200)


@pytest.mark.parametrize("path", HOT)
@pytest.mark.parametrize("body", BAD, ids=str)
def test_invalid_bodies(service: Service, path: str, body: Any) -> None:  # noqa: ANN401
    """The shortcut refuses an invalid body with the status, type and bytes of FastAPI's answer."""
    content = httpx.Request("POST", "http://x", json=body).content
    answers = [way(service, path, content) for way in (call_without_length, call_with_length)]
    assert answers[0].status_code == answers[1].status_code == 422
    assert answers[0].content == answers[1].content
    assert answers[0].headers["content-type"] == answers[1].headers["content-type"]


@pytest.mark.parametrize("path", HOT)
def test_valid_bodies(service: Service, path: str) -> None:
    """The shortcut answers like FastAPI, except for the ids of decisions."""
    content = httpx.Request("POST", "http://x", json=GOOD[path]).content
    answers = [way(service, path, content) for way in (call_without_length, call_with_length)]
    assert [answer.status_code for answer in answers] == [200, 200]
    first, second = ({**answer.json(), "decision_id": None} for answer in answers)
    assert first == second


@pytest.mark.parametrize("path", [path for path in HOT if "reward" in path])
def test_idempotency_keys(service: Service, path: str) -> None:
    """A reward sent both ways with one key counts once, and an invalid key is refused alike."""
    content = httpx.Request("POST", "http://x", json=GOOD[path]).content
    assert call_without_length(service, path, content, **{"Idempotency-Key": "k"}).json()["applied"] is True
    assert call_with_length(service, path, content, **{"Idempotency-Key": "k"}).json()["applied"] is False
    refused = [
        way(service, path, content, **{"Idempotency-Key": "k" * 201}) for way in (call_without_length, call_with_length)
    ]
    assert refused[0].status_code == refused[1].status_code == 422
    assert refused[0].content == refused[1].content


@pytest.mark.parametrize("path", HOT)
def test_other_methods_and_paths(service: Service, path: str) -> None:
    """Only a POST to the exact path, or with the name of a policy in it, takes the shortcut."""
    assert service.client.get(path).status_code == 405
    assert call_with_length(service, f"{path}/", b"{}").status_code == 404
    encoded = path.replace("/s", "/%73", 1).replace("/r", "/%72", 1)
    assert call_with_length(service, encoded, b"{}").status_code == 404


@pytest.mark.parametrize("path", OF_POLICIES)
def test_policies_and_parameters(service: Service, path: str) -> None:
    """An unknown policy is the same 404 both ways, a missing one is no path, and a parameter is refused."""
    content = httpx.Request("POST", "http://x", json=GOOD[path]).content
    for name in ("unknown-v1", "{policy}", "%75niform-v1", "x" * 200):
        answers = [
            way(service, path.replace("uniform-v1", name), content) for way in (call_without_length, call_with_length)
        ]
        assert [(one.status_code, one.json()["code"]) for one in answers] == [(404, "unknown_policy")] * 2
        assert answers[0].content == answers[1].content
    # The template of the path in the document would match it.
    nameless = httpx.post(service.url + path.replace("uniform-v1", ""), content=content, headers=HEADERS)
    assert nameless.json()["code"] == "not_found"
    assert call_with_length(service, path.replace("/policies", "/Policies"), content).json()["code"] == "not_found"
    refused = call_with_length(service, f"{path}?dry=1", content)
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["query", "dry"])


@pytest.mark.parametrize("path", [*HOT, "/prompts"])
def test_body_over_the_limit(service: Service, path: str) -> None:
    """A body over the limit is the same 413 by Content-Length and by the bytes received."""
    answers = [way(service, path, b" " * 3_000_000) for way in (call_without_length, call_with_length)]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(413, "content_too_large")] * 2
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize("path", HOT)
def test_openapi(service: Service, path: str) -> None:
    """The OpenAPI document has the hot calls with their bodies and answers."""
    template = path.replace("uniform-v1", "{policy}")
    described = service.client.get("/openapi.json").json()["paths"][template]["post"]
    assert {"requestBody", "responses"} <= described.keys()
