"""The span of each request, with the route and never the path, which may name a user."""

from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from oo_ml.api.access.guard import PROBES
from oo_ml.api.exchanges import exchange_of
from oo_ml.api.heads import head_of

if TYPE_CHECKING:
    from oo_ml.tracing.spans import Spans


class Traced:
    """ASGI middleware behind `Observed` that makes a span of each request; it goes on with the trace of the client."""

    def __init__(self, app: ASGIApp, spans: "Spans") -> None:
        self._app = app
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on."""
        # Probes come every few seconds, and would fill the traces.
        if scope["type"] != "http" or head_of(scope).path in PROBES:
            await self._app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        parent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._spans.request(exchange.method, parent) as span:
            try:
                await self._app(scope, receive, send)
            finally:
                self._spans.describe_request(
                    span,
                    method=exchange.method,
                    route=exchange.route,
                    status=exchange.status,
                    request_id=exchange.request_id,
                )
