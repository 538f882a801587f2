"""The access log: one line a request, with its route and never its path."""

import logging

import httpx
import pytest

from oo_ml.domain.access import Scope
from oo_ml.setting_choices import Auth
from tests import calls
from tests.api.access.conftest import Create, bearer, create_key
from tests.conftest import Serve
from tests.raw_http import ask_livez, connect, exchange, statuses
from tests.waiting import until

__all__ = ["create_key"]


def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the records of the access log."""
    return [record for record in caplog.records if record.name == "oo_ml.access"]


def test_off(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Without OO_ML_ACCESS_LOG there is no line, for refusals of the protocol neither."""
    caplog.set_level(logging.DEBUG)
    service = serve()
    service.client.post("/score", json=calls.score())
    assert statuses(exchange(service, b"nonsense\r\n\r\n")) == [400]
    assert records(caplog) == []


def test_every_call(serve: Serve, create_key: Create, caplog: pytest.LogCaptureFixture) -> None:
    """Each call has a line with its method, route, status, and the id of its key."""
    caplog.set_level(logging.INFO)
    service = serve(access_log=True, auth=Auth.REQUIRED)
    created = create_key(Scope.ADMIN)
    paths = httpx.get(f"{service.url}/openapi.json", headers=bearer(created.token)).json()["paths"]
    until(lambda: len(records(caplog)) == 1)
    caplog.clear()
    for method, path, body in calls.EVERY.values():
        answer = service.client.request(method, path, json=body, headers=bearer(created.token))
        until(lambda: len(records(caplog)) == 1)
        [record] = records(caplog)
        fields = vars(record)
        assert (fields["method"], fields["status"]) == (method, answer.status_code)
        assert fields["route"] in paths
        assert fields["key_id"] == ("(open)" if path == "/readyz" else created.key.key_id)
        assert fields["ms"] > 0
        assert "ada" not in record.getMessage()
        caplog.clear()


def test_refused_body(serve: Serve, create_key: Create, caplog: pytest.LogCaptureFixture) -> None:
    """The line of a call that is refused for the type of its body has the id of its key."""
    caplog.set_level(logging.INFO)
    service = serve(access_log=True, auth=Auth.REQUIRED)
    created = create_key(Scope.DECIDE)
    headers = {**bearer(created.token), "Content-Type": "text/plain"}
    assert service.client.post("/score", content="{}", headers=headers).status_code == 415
    until(lambda: len(records(caplog)) == 1)
    [record] = records(caplog)
    assert (vars(record)["status"], vars(record)["key_id"]) == (415, created.key.key_id)


def test_refusals_of_the_protocol(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A request that the protocol refuses has a line too, with the error's code."""
    caplog.set_level(logging.INFO)
    service = serve(access_log=True, head_timeout=0.2, max_head_bytes=1000)
    for sent, expected in (
        (b"nonsense\r\n\r\n", (400, "malformed_request")),
        (b"GET /livez HTTP/1.1\r\nX-A: " + b"a" * 1000, (431, "head_too_large")),
        (b"GET /livez HTTP/1.1\r\n", (408, "slow_request")),
    ):
        caplog.clear()
        answer = exchange(service, sent)
        until(lambda: len(records(caplog)) == 1)
        [record] = records(caplog)
        assert (vars(record)["status"], vars(record)["code"]) == expected
        assert b'"code":"%s"' % expected[1].encode() in answer


def test_too_many_connections(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that is refused has a line."""
    caplog.set_level(logging.INFO)
    service = serve(access_log=True, max_connections=1)
    with connect(service) as first:
        ask_livez(first)
        assert statuses(exchange(service)) == [503]
        until(lambda: any("refused: 503 overloaded" in record.getMessage() for record in records(caplog)))
