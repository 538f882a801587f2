"""Scopes: each route declares the one that it needs, and a key without it is refused."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from oo_ml.api.access.guard import PROBES
from oo_ml.api.access.scopes import scope_of
from oo_ml.api.app import create_api
from oo_ml.domain.access import Scope
from oo_ml.settings import Settings
from tests.api.access.conftest import ADMIN_TOKEN, Create, bearer
from tests.serving import NO_CERTIFICATES, Service

# The routes that FastAPI and the dashboard add; the guard asks for `read`.
PAGES = re.compile(r"/dashboard|/docs|/openapi\.json|/static-offline-docs")


def routes() -> list[tuple[str, str, APIRoute | None]]:
    """Return method, path and route of everything that the application serves."""
    return list(_walk(create_api(Settings()).routes))


def _walk(served: Iterable[Any]) -> Iterator[tuple[str, str, APIRoute | None]]:
    for route in served:
        if hasattr(route, "original_router"):
            yield from _walk(route.original_router.routes)
        elif isinstance(route, Mount):
            yield "GET", f"{route.path}/anything", None
        else:
            assert isinstance(route, Route | APIRoute)
            for method in route.methods or ():
                yield method, route.path, route if isinstance(route, APIRoute) else None


def send(service: Service, method: str, path: str, token: str | None) -> httpx.Response:
    """Send a request without a body to a route."""
    address = re.sub(r"{\w+(:path)?}", "x", path)
    headers = bearer(token) if token else {}
    # Not by service.client: an answer to HEAD has no body that it could check.
    return httpx.request(method, f"{service.url}{address}", headers=headers, trust_env=False, verify=NO_CERTIFICATES)


def test_every_route_is_classified() -> None:
    """A route is a probe, a page, or declares its scope; the document names the scope."""
    paths = create_api(Settings()).openapi()["paths"]
    classified = set()
    for method, path, route in routes():
        if path in PROBES or PAGES.match(path):
            continue
        assert route is not None, path
        scope = scope_of(route)
        assert scope is not None, f"{method} {path} declares no scope"
        classified.add(scope)
        if route.include_in_schema:
            assert paths[path.replace(":path", "")][method.lower()]["security"] == [{"apiKey": [scope.value]}]
    assert classified == set(Scope) - {Scope.ADMIN}
    assert all(paths[probe]["get"]["security"] == [] for probe in PROBES)


def test_every_route_without_a_key(guarded: Service) -> None:
    """Only the probes answer without a key."""
    statuses = {(method, path): send(guarded, method, path, None).status_code for method, path, _ in routes()}
    assert {path for (_, path), status in statuses.items() if status != 401} == PROBES
    assert len(statuses) > 40


def test_every_route_with_too_little(guarded: Service, create_key: Create) -> None:
    """A key that has every scope but the one of the call is refused: 403, and the message names the scope."""
    tokens = {
        missing: create_key(*(set(Scope) - {missing, Scope.ADMIN}), name=f"all but {missing}").token
        for missing in set(Scope) - {Scope.ADMIN}
    }
    for method, path, route in routes():
        if path in PROBES:
            continue
        needed = Scope.READ if route is None or PAGES.match(path) else scope_of(route)
        assert needed is not None
        answer = send(guarded, method, path, tokens[needed])
        assert answer.status_code == 403, (method, path)
        if method != "HEAD":
            assert answer.json() == {
                "detail": f"The API key lacks the scope {needed}",
                "code": "missing_scope",
                "request_id": answer.headers["X-Request-ID"],
            }
        others = [token for missing, token in tokens.items() if missing is not needed]
        assert {send(guarded, method, path, token).status_code for token in others}.isdisjoint({401, 403}), path


@pytest.mark.parametrize(
    "path",
    [
        "/score",
        "/score/egreedy",
        "/reward",
        "/reward/egreedy",
        "/policies/uniform-v1/score",
        "/policies/uniform-v1/reward",
    ],
)
def test_hot_calls(guarded: Service, create_key: Create, path: str) -> None:
    """The hot calls, which go past FastAPI, need `decide`."""
    reader, decider = create_key(Scope.READ, name="r"), create_key(Scope.DECIDE, name="d")
    assert send(guarded, "POST", path, None).status_code == 401
    assert send(guarded, "POST", path, reader.token).status_code == 403
    assert send(guarded, "POST", path, decider.token).status_code == 422
    assert send(guarded, "POST", path, ADMIN_TOKEN).status_code == 422


def test_open_service(service: Service) -> None:
    """With OO_ML_AUTH=off no key is needed, and a key that is sent is not looked at."""
    assert service.client.get("/stats/ada").status_code == 200
    assert service.client.get("/stats/ada", headers=bearer("anything")).status_code == 200
