"""Traces: spans of requests, transactions and generations, at a collector that the test runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from oo_ml import tracing
from tests import calls
from tests import gateway as behave
from tests.collector import ENDPOINT, Collector, values
from tests.conftest import make_settings
from tests.gateway import Gateway
from tests.serving import Service, serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}

Traced = Callable[..., AbstractContextManager[Service]]


@pytest.fixture
def traced(service_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    """Serve with the OTEL_ variables and the settings given. What is left is sent before the service has ended."""

    @contextmanager
    def start(variables: Mapping[str, str], **settings: Any) -> Iterator[Service]:  # noqa: ANN401 - of many types
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        # A process reads the variables once.
        tracing.source.cache_clear()
        with serving(make_settings(epsilon=0, **settings), service_url) as service:
            yield service

    yield start
    tracing.source.cache_clear()


def test_spans_of_a_decision(traced: Traced, collector: Collector) -> None:
    """A call is a span of the client's trace; its transaction is a trace of its own, linked to the call."""
    with traced({ENDPOINT: collector.url}) as service:
        service.client.post("/score", json=calls.score(), headers={**SAMPLED, "X-Request-ID": "r-17"})
    [request] = collector.named("POST /score")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert request.kind == Span.SPAN_KIND_SERVER
    assert values(request) == {
        "http.request.method": "POST",
        "http.route": "/score",
        "http.response.status_code": 200,
        "oo_ml.request_id": "r-17",
    }
    [transaction] = collector.named("lane transaction")
    assert [(link.trace_id, link.span_id) for link in transaction.links] == [(request.trace_id, request.span_id)]
    assert (transaction.parent_span_id, transaction.trace_id != request.trace_id) == (b"", True)
    assert values(transaction) == {"db.system.name": "postgresql", "oo_ml.batch_size": 1}
    assert request.start_time_unix_nano < transaction.start_time_unix_nano
    assert transaction.end_time_unix_nano < request.end_time_unix_nano
    assert collector.resources[0]["service.name"] == "oo-ml"
    assert collector.resources[0]["service.version"] == "0.1.0"


def test_span_of_a_generation(traced: Traced, collector: Collector, gateway: Gateway) -> None:
    """A generation is a span of the call, with its version, outcome and cost; the gateway goes on with the trace."""
    gateway.script(behave.completion("no tips"), behave.tips("Drink water."))
    with traced({ENDPOINT: collector.url}, litellm_url=gateway.url) as service:
        answer = service.client.post("/generate", json={"user_id": "ada", "n": 1}, headers=SAMPLED)
        assert answer.status_code == 200
    [request] = collector.named("POST /generate")
    [call] = collector.named("generate tips")
    assert (call.parent_span_id, call.kind) == (request.span_id, Span.SPAN_KIND_CLIENT)
    assert values(call) == {
        "oo_ml.prompt_version": "v1",
        "oo_ml.outcome": "ok",
        "oo_ml.attempts": 2,
        "gen_ai.usage.input_tokens": 22,
        "gen_ai.usage.output_tokens": 14,
    }
    sent = [one.headers["traceparent"] for one in gateway.requests]
    assert sent == [f"00-{TRACE}-{call.span_id.hex()}-01"] * 2


def test_requests_that_are_not_sampled(traced: Traced, collector: Collector) -> None:
    """The client's decision not to sample holds for the request and for its transaction."""
    with traced({ENDPOINT: collector.url}) as service:
        service.client.post("/score", json=calls.score(), headers=NOT_SAMPLED)
        service.client.get("/livez")
        service.client.get("/prompts")
    # No probe has a span.
    assert {span.name for span in collector.spans} == {"GET /prompts"}


@pytest.mark.parametrize("variables", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_off(traced: Traced, gateway: Gateway, collector: Collector, variables: dict[str, str]) -> None:
    """Without an endpoint, or if traces are off, there are none, and the gateway gets no `traceparent`."""
    endpoint = {ENDPOINT: collector.url} if variables else {}
    with traced({**endpoint, **variables}, litellm_url=gateway.url) as service:
        assert service.client.post("/generate", json={"user_id": "ada"}, headers=SAMPLED).status_code == 200
    assert collector.bodies == []
    assert not any("traceparent" in one.headers for one in gateway.requests)
