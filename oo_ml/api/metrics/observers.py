"""Functions that count requests, and connections that are refused: 2 us of CPU a request."""

from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Final

from oo_ml.api.exchanges import Exchange, Observer
from oo_ml.errors import OoMlError
from oo_ml.metrics import declarations as declared
from oo_ml.metrics.registry import Metrics

# Clients can send any method, so all others share a label.
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def create_observer(metrics: Metrics) -> Observer:
    """Return the observer that counts and times requests, and counts answers 503 by code."""

    @cache
    def seconds(method: str, route: str | None, status: int | None) -> Callable[[float], None]:
        shown = declared.NONE if status is None else str(status)
        return metrics.observe(declared.REQUEST_SECONDS, method, route or declared.NONE, shown)

    def observe(exchange: Exchange) -> None:
        method = exchange.method if exchange.method in _METHODS else declared.OTHER
        seconds(method, exchange.route, exchange.status)(exchange.seconds)
        if exchange.status == HTTPStatus.SERVICE_UNAVAILABLE:
            metrics.increase(declared.UNAVAILABLE, exchange.error_code or declared.NONE)()

    return observe


def count_refusals(metrics: Metrics) -> Callable[[OoMlError, str], None]:
    """Return the function that counts a connection which the protocol refuses, by error code."""

    def count(error: OoMlError, _request_id: str) -> None:
        metrics.increase(declared.CONNECTIONS_REFUSED, error.code)()

    return count
