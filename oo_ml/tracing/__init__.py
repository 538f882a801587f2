"""Traces: a span for each request, each transaction of a lane and each generation of tips. No span names a user.

The standard OTEL_ variables configure them. If they name no collector, no library of OpenTelemetry is imported.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from oo_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from oo_ml.tracing.spans import Spans

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP: Final = "http/protobuf"
_PACKAGE: Final = "opentelemetry.exporter.otlp.proto.http"

Describe = Callable[[Mapping[str, str | int]], None]


@cache
def source() -> "Spans | None":
    """Return the source of spans of this process, None if it sends none; the first call starts the exporter.

    Raises:
        ConfigurationError: the OTEL_ variables ask for something that can't be done.
    """
    if not _is_configured(os.environ):
        return None
    check()
    from oo_ml.tracing.spans import Spans  # noqa: PLC0415 - it needs the extra, and takes long

    return Spans()


def check() -> None:
    """Check that traces can be sent if the OTEL_ variables ask for them.

    Raises:
        ConfigurationError: they can't.
    """
    if _is_configured(os.environ) and not _is_installed():
        raise ConfigurationError(
            "The OTEL_ variables ask for traces: install oo-ml[otel], or set OTEL_SDK_DISABLED=true"
        )


def transaction(contexts: Iterable[Context]) -> AbstractContextManager[object]:
    """Return the context of a transaction; its span is linked to the requests that have these context variables."""
    found = source()
    return nullcontext() if found is None else found.transaction(contexts)


def gateway_call(version: str) -> AbstractContextManager[Describe]:
    """Return the context of a generation with a prompt version; it gives a function that adds attributes."""
    found = source()
    return nullcontext(_ignore) if found is None else found.gateway_call(version)


def headers() -> dict[str, str]:
    """Return the headers that continue the trace in another service."""
    found = source()
    return {} if found is None else found.headers()


def close(within: float) -> None:
    """Send the last spans; give up after `within` seconds."""
    if found := source():
        found.close(within)


def _ignore(_: Mapping[str, str | int]) -> None:
    pass


def _is_installed() -> bool:
    try:
        return find_spec(_PACKAGE) is not None
    except ModuleNotFoundError:
        return False


def _is_configured(environment: Mapping[str, str]) -> bool:
    """Return whether to send traces.

    Raises:
        ConfigurationError: the exporter or the protocol is not supported.
    """
    exporter = environment.get(_EXPORTER, "").strip()
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    if not exporter and not any(environment.get(name) for name in _ENDPOINTS):
        return False
    if exporter not in {"", "otlp"}:
        raise ConfigurationError(f"{_EXPORTER}: must be otlp or none")
    chosen = next((name for name in _PROTOCOLS if environment.get(name)), None)
    if chosen and environment[chosen].strip() != _HTTP:
        raise ConfigurationError(f"{chosen}: must be {_HTTP}, usually on port 4318")
    return True
