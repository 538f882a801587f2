"""Traces of `oo-ml serve`: nothing that is sent names a user; several processes; a silent collector; the settings."""

import signal
import socket
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from oo_ml.api.access.guard import PROBES
from tests import calls
from tests.collector import ENDPOINT, Collector, values
from tests.commands import oo_ml, run_serve

USER = "peculiarada/ö"


def test_spans_of_every_route_name_no_user(
    service_url: str, postgresql: psycopg.Connection[tuple[object]], collector: Collector, tmp_path: Path
) -> None:
    """Each route has a span, through FastAPI and past it; no span and nothing else that is sent names the user."""
    # FastAPI has telemetry of its own, which quotes invalid bodies.
    variables = {ENDPOINT: collector.url, "FASTAPI_OTEL_AUTO_CONFIGURE": "true", "LITELLM_URL": "http://127.0.0.1:1"}
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=service_url, **variables) as service:
        expected = set()
        routes = service.client.get("/openapi.json").json()["paths"]
        operations = {one["operationId"]: path for path, methods in routes.items() for one in methods.values()}
        for operation, (method, path, body) in calls.EVERY.items():
            content = None if body is None else {**body, "user_id": USER}
            service.client.request(method, path.replace("/ada", f"/{quote(USER, safe='')}"), json=content)
            if path not in PROBES:
                expected.add(f"{method} {operations[operation]}")
        service.client.post("/score", json={"user_id": USER})
        service.client.get(f"/nowhere/{quote(USER)}")
        # PostgreSQL quotes the row in DETAIL.
        postgresql.execute("ALTER TABLE oo_ml.feature_history ADD CHECK (user_id = 'ada') NOT VALID")
        postgresql.commit()
        assert service.client.post("/score", json=calls.score(USER)).status_code == 500
        assert service.stop(signal.SIGTERM) == 0
    assert {span.name for span in collector.spans} >= expected | {"GET"}
    assert collector.paths == {"/v1/traces"}
    assert not any(b"peculiarada" in body for body in collector.bodies)
    failed = collector.named("POST /score")[-1]
    assert (failed.status.code, values(failed)["error.type"]) == (Status.STATUS_CODE_ERROR, "500")
    transaction = collector.named("lane transaction")[-1]
    assert (transaction.status.code, values(transaction)["error.type"]) == (Status.STATUS_CODE_ERROR, "unexpected")


def test_several_processes(service_url: str, collector: Collector, tmp_path: Path) -> None:
    """Processes send their spans under the name that OTEL_SERVICE_NAME gives, and the last ones at their end."""
    variables = {ENDPOINT: collector.url, "OTEL_SERVICE_NAME": "tips", "OO_ML_PROCESSES": 2}
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=service_url, **variables) as service:
        for _ in range(10):
            # A connection each, so that either may answer.
            assert httpx.post(f"{service.client.base_url}/score", json=calls.score(), timeout=60).status_code == 200
        assert service.stop(signal.SIGTERM) == 0
    assert len(collector.named("POST /score")) == 10
    assert {resource["service.name"] for resource in collector.resources} == {"tips"}


def test_collector_that_is_silent(service_url: str, tmp_path: Path) -> None:
    """A collector that accepts and never answers delays no call, and the end by OO_ML_SHUTDOWN_TIMEOUT at most."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        variables = {ENDPOINT: address, "OO_ML_SHUTDOWN_TIMEOUT": 1, "OTEL_EXPORTER_OTLP_TIMEOUT": 3600}
        with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=service_url, **variables) as service:
            assert service.client.post("/score", json=calls.score()).status_code == 200
            assert service.stop(signal.SIGTERM) == 0
            # The SDK alone would wait for 30 s.
            assert "the last spans were not sent within 1 s" in service.log.read_text("utf-8")


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER: must be otlp or none"),
        (
            {ENDPOINT: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf, usually on port 4318",
        ),
    ],
)
def test_unsupported_variables(variables: dict[str, str], line: str) -> None:
    """An exporter or protocol that is not supported is one line and exit code 1, before anything is started."""
    done = oo_ml("serve", **variables)
    assert (done.code, done.err) == (1, f"error: {line}\n")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the packages are missing, `oo-ml serve` says so before anything is started."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto", None)
    monkeypatch.delitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", raising=False)
    done = oo_ml("serve", **{ENDPOINT: "http://127.0.0.1:4318"})
    expected = "The OTEL_ variables ask for traces: install oo-ml[otel], or set OTEL_SDK_DISABLED=true"
    assert (done.code, done.err) == (1, f"error: {expected}\n")
