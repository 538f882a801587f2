"""Spans, sent to the collector by OTLP over HTTP. The SDK reads the OTEL_ variables."""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from importlib.metadata import version
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context as TraceContext
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from oo_ml.errors import OoMlError
from oo_ml.tracing import Describe

logger = logging.getLogger(__name__)

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_SERVER_ERRORS: Final = 500


class Spans:
    """Source of the spans of a process. A thread of its own sends them."""

    def __init__(self) -> None:
        release = version("oo-ml")
        ours = Resource({"service.name": "oo-ml", "service.version": release})
        resource = Resource.create().merge(ours).merge(OTELResourceDetector().detect())
        # `close` sends the last spans, within a limit; the SDK's own way at exit has a longer one.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("oo_ml", release)

    @contextmanager
    def request(self, method: str, parent: Mapping[str, str]) -> Iterator[Span]:
        """Make the span of a request the current one; `parent` are the headers that may name a trace."""
        with self._tracer.start_as_current_span(
            method,
            context=_PROPAGATOR.extract(parent, context=TraceContext()),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method},
            # The message of an exception may quote a user's data.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    @staticmethod
    def describe_request(span: Span, *, method: str, route: str | None, status: int | None, request_id: str) -> None:
        """Say in the span of a request what is known of it at its end."""
        span.set_attribute("oo_ml.request_id", request_id)
        if route is not None:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        if status is not None:
            span.set_attribute("http.response.status_code", status)
            if status >= _SERVER_ERRORS:
                span.set_attribute("error.type", str(status))
                span.set_status(StatusCode.ERROR)

    @contextmanager
    def transaction(self, contexts: Iterable[Context]) -> Iterator[None]:
        """Make a span of a trace of its own, unless none of the requests is sampled."""
        callers = [context.run(trace.get_current_span).get_span_context() for context in contexts]
        links = [Link(caller) for caller in callers if caller.trace_flags.sampled]
        if not links:
            yield
            return
        span = self._tracer.start_span(
            "lane transaction",
            context=TraceContext(),
            links=links,
            attributes={"db.system.name": "postgresql", "oo_ml.batch_size": len(callers)},
        )
        try:
            yield
        except Exception as error:
            span.set_attribute("error.type", error.code if isinstance(error, OoMlError) else type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise
        finally:
            span.end()

    @contextmanager
    def gateway_call(self, prompt_version: str) -> Iterator[Describe]:
        """Make the span of a generation the current one; give a function that adds attributes."""
        with self._tracer.start_as_current_span(
            "generate tips",
            kind=SpanKind.CLIENT,
            attributes={"oo_ml.prompt_version": prompt_version},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span.set_attributes

    def headers(self) -> dict[str, str]:
        """Return the header `traceparent` of the current span."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier

    def close(self, within: float) -> None:
        """Send the last spans; give up after `within` seconds."""
        # The SDK would wait for thirty seconds for a collector that is away.
        closing = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        closing.start()
        closing.join(within)
        if closing.is_alive():
            logger.warning("the last spans were not sent within %g s", within)
