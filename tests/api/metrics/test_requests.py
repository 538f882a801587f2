"""Metrics of requests: by route, status and duration, with labels that no client can choose."""

import httpx
import pytest

from oo_ml.api.app import create_api
from oo_ml.domain.access import Scope
from oo_ml.metrics.declarations import ALL
from oo_ml.settings import Settings
from tests import calls
from tests.api.access.conftest import Create, bearer
from tests.conftest import Serve, make_settings
from tests.raw_http import ask_livez, connect, exchange, statuses
from tests.scraping import scrape
from tests.serving import NO_CERTIFICATES, Service, serving

REQUESTS = "oo_ml_request_seconds_count"


def test_requests(service: Service) -> None:
    """A request is counted by method, template of its path and status, on hot calls and others, with its duration."""
    service.client.post("/score", json=calls.score())
    service.client.post("/score", json={})
    for user in ("ada", "ben"):
        service.client.get(f"/stats/{user}")
    found = scrape(service.client)
    assert found.value(REQUESTS, method="POST", route="/score", status="200") == 1
    assert found.value(REQUESTS, method="POST", route="/score", status="422") == 1
    assert found.value(REQUESTS, method="GET", route="/stats/{user_id}", status="200") == 2
    seconds = found.value("oo_ml_request_seconds_sum", method="POST", route="/score", status="200")
    assert seconds is not None
    assert seconds > 0
    again = scrape(service.client)
    assert again.value(REQUESTS, method="GET", route="/metrics", status="200") == 1


def test_labels_of_unknown_requests(service: Service) -> None:
    """Paths that are not served share a route, and unusual methods a method."""
    for number in range(3):
        service.client.get(f"/no-such-path/{number}")
    for method in (b"PURGE", b"MKCOL"):
        request = method + b" /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert statuses(exchange(service, request)) == [405]
    found = scrape(service.client)
    assert found.value(REQUESTS, method="GET", route="(none)", status="404") == 3
    assert found.sum(REQUESTS, method="(other)", status="405") == 2
    assert found.labels(REQUESTS, "method") == {"GET", "(other)"}


def test_no_user_in_metrics(serve: Serve) -> None:
    """No call that names a user leaves its id, or that of a tip or a decision, in the metrics."""
    service = serve(epsilon=0, litellm_url="http://127.0.0.1:1")
    user, odd = "a-peculiar-user", "01a207ac-5779-7446-ab27-aa4ca4d9dd7a"
    for method, path, body in calls.EVERY.values():
        told = None if body is None else _rename(body, user)
        service.client.request(method, path.replace("ada", user), json=told)
        # Not by service.client: no document promises an answer there.
        address = f"{service.url}{path.replace('ada', user)}/{user}"
        httpx.request(method, address, json=told, trust_env=False, verify=NO_CERTIFICATES)
    found = scrape(service.client)
    assert user not in found.text
    assert odd not in found.text
    assert found.labels(REQUESTS, "route") <= {"(none)", *create_api(Settings()).openapi()["paths"]}
    assert len(found.labels(REQUESTS, "route")) > 20


def _rename(body: dict[str, object], user: str) -> dict[str, object]:
    items = body.get("items")
    if isinstance(items, list):
        return {"items": [_rename(item, user) for item in items]}
    return {**body, "user_id": user} if "user_id" in body else body


def test_unavailable() -> None:
    """An answer 503 is counted by its error code, on hot calls and others."""
    with serving(make_settings(), "postgresql://missing@127.0.0.1:1/nothing") as service:
        for method, path in (("POST", "/score"), ("GET", "/stats/ada"), ("GET", "/readyz")):
            body = calls.score() if path == "/score" else None
            assert service.client.request(method, path, json=body).status_code == 503
        found = scrape(service.client)
    assert found.value("oo_ml_unavailable_total", code="database_unavailable") == 3
    assert found.labels("oo_ml_unavailable_total", "code") == {"database_unavailable"}


def test_refused_connections(serve: Serve) -> None:
    """A connection that the protocol refuses is counted by error code: slow, too large, malformed, too many."""
    hurried = serve(head_timeout=0.2)
    assert statuses(exchange(hurried, b"GET /livez HTTP/1.1\r\n")) == [408]
    refused = scrape(hurried.client)
    assert refused.value("oo_ml_connections_refused_total", code="slow_request") == 1
    service = serve(max_head_bytes=1000, max_connections=2)
    assert statuses(exchange(service, b"GET /livez HTTP/1.1\r\nX-A: ", b"a" * 2000)) == [431]
    assert statuses(exchange(service, b"nonsense\r\n\r\n")) == [400]
    with connect(service) as first, connect(service) as second:
        for connection in (first, second):
            ask_livez(connection)
        assert statuses(exchange(service)) == [503]
    found = scrape(service.client)
    for code in ("head_too_large", "malformed_request", "overloaded"):
        assert found.value("oo_ml_connections_refused_total", code=code) == 1, code


def test_scope(guarded: Service, create_key: Create) -> None:
    """The metrics need a key with the scope `metrics`, and no other scope."""
    scraper, reader = create_key(Scope.METRICS, name="m"), create_key(Scope.READ, name="r")
    assert guarded.client.get("/metrics").status_code == 401
    assert guarded.client.get("/metrics", headers=bearer(reader.token)).status_code == 403
    found = scrape(guarded.client, **bearer(scraper.token))
    assert found.value(REQUESTS, method="GET", route="/metrics", status="403") == 1
    assert found.value(REQUESTS, method="GET", route="(none)", status="401") == 1


def test_declared(service: Service) -> None:
    """Every metric is declared, with its labels, and each name has the prefix and the unit that Prometheus wants."""
    service.client.post("/score", json=calls.score())
    declared = {one.name: set(one.labels) for one in ALL}
    assert len(declared) == len(ALL) == 25
    for name, has in scrape(service.client).samples:
        base = next((one for one in declared if name.removeprefix(one) in {"", "_bucket", "_count", "_sum"}), None)
        assert base is not None, name
        assert {label for label, _ in has} - {"le"} == declared[base], name


@pytest.mark.parametrize("path", ["/metrics/", "/metrics/x"])
def test_other_paths(service: Service, path: str) -> None:
    """Only /metrics has the metrics."""
    assert service.client.get(path).status_code == 404
