"""Requests of browsers: pages of other sites can change nothing, and bodies are JSON."""

from collections.abc import Mapping

import httpx
import pytest

from tests import calls
from tests.conftest import Serve
from tests.raw_http import exchange, statuses
from tests.serving import Service

HOST = "service.example:8000"
ELSEWHERE = "https://elsewhere.example"


@pytest.fixture
def known(serve: Serve) -> Service:
    """A service with a name, and with one other site whose pages may call."""
    return serve(allowed_hosts="service.example, 127.0.0.1", cors_origins="https://app.example", epsilon=0)


def status(service: Service, method: str, path: str, headers: Mapping[str, str], content: bytes = b"") -> int:
    """Send a request; return the status of the answer."""
    return service.client.request(method, path, headers={"Host": HOST, **headers}, content=content).status_code


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": f"https://{HOST}"},
    {"Origin": ELSEWHERE},
    {"Origin": "null"},
    {"Origin": f"https://{HOST}.elsewhere.example"},
    {"Origin": "http://service.example"},  # another port
    {"Origin": "https://sub.service.example:8000"},
    {"Origin": "ftp://service.example:8000"},
    {"Origin": "http://[service.example:8000"},
]
SAME_SITE = [
    {},
    {"Sec-Fetch-Site": "same-origin", "Origin": f"http://{HOST}"},
    {"Origin": f"https://{HOST}"},  # a proxy adds TLS
    {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "null"},  # a form, from a page with the policy no-referrer
]


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
def test_cross_site(known: Service, headers: dict[str, str]) -> None:
    """A page of another site can neither decide, nor reset, nor erase, with or without a body; it may follow links."""
    body = known.client.build_request("POST", "/score", json=calls.score()).content
    assert status(known, "POST", "/score", headers, body) == 403
    assert status(known, "POST", "/reset/ada", headers) == 403
    assert status(known, "DELETE", "/users/ada", headers) == 403
    assert status(known, "POST", "/prompts", {**headers, "Content-Type": "text/plain"}, b"{}") == 403
    assert status(known, "GET", "/dashboard", headers) == 200


@pytest.mark.parametrize("headers", SAME_SITE, ids=str)
def test_same_site(known: Service, headers: dict[str, str]) -> None:
    """The service's own pages, configured sites, and clients that are no browsers may call."""
    body = known.client.build_request("POST", "/score", json=calls.score()).content
    assert status(known, "POST", "/score", headers, body) == 200
    assert status(known, "POST", "/reset/ada", headers) == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("service.example", 200),
        ("SERVICE.example:1", 200),
        ("127.0.0.1:80", 200),
        ("elsewhere.example", 403),
        ("service.example.elsewhere.example", 403),
        ("[service.example", 403),
        ("", 403),
    ],
)
def test_host(known: Service, host: str, expected: int) -> None:
    """A request to another name is refused, so that a name bound to this address (DNS rebinding) is of no use."""
    assert status(known, "GET", "/stats/ada", {"Host": host}) == expected
    assert status(known, "POST", "/score", {"Host": host}, b"{}") == (422 if expected == 200 else 403)
    assert status(known, "GET", "/livez", {"Host": host}) == 200


@pytest.mark.parametrize("path", ["/score", "/prompts", "/score/batch"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=a"}, 415),
        ({"Content-Type": "application/jsonp"}, 415),
        ({"Content-Type": "text/plain; application/json"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "br"}, 415),
        ({"Content-Encoding": "identity"}, 422),
        ({"Content-Type": "application/json; charset=utf-8"}, 422),
        ({"Content-Type": "Application/JSON"}, 422),
        ({}, 422),
    ],
    ids=str,
)
def test_media_type(service: Service, path: str, headers: dict[str, str], expected: int) -> None:
    """A body is JSON and not compressed; without a type it is taken for JSON."""
    answer = service.client.post(path, content=b'{"a": 1}', headers=headers)
    assert answer.status_code == expected
    assert answer.json()["code"] == ("unsupported_media_type" if expected == 415 else "invalid")


def test_preflight(known: Service, service: Service) -> None:
    """A browser learns which sites may call; by default none may."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    allowed = httpx.options(f"{known.url}/score", headers={"Origin": "https://app.example", **asked})
    assert allowed.status_code == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
    for one in (known, service):
        refused = httpx.options(f"{one.url}/score", headers={"Origin": ELSEWHERE, **asked})
        assert "Access-Control-Allow-Origin" not in refused.headers


@pytest.mark.parametrize("name", ["Host", "Origin", "Authorization", "Content-Type"])
def test_repeated_headers(service: Service, name: str) -> None:
    """Two Host, Origin or Authorization headers are refused: a proxy might obey the other one."""
    head = f"GET /stats/ada HTTP/1.1\r\n{name}: a\r\n{name}: b\r\nConnection: close\r\n\r\n"
    answer = exchange(service, head.encode())
    assert statuses(answer) == [400]
    assert b"malformed_request" in answer
