"""A request and its answer, as metrics, logs and traces tell of it: the hot calls and the guard's refusals included."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oo_ml.api import heads
from oo_ml.api.request_ids import HEADER, request_id
from oo_ml.logs import REQUEST_ID

logger = logging.getLogger(__name__)

_EXCHANGE: Final = "exchange"


@dataclass(slots=True)
class Exchange:
    """A request and its answer. Nothing in it names a user.

    Attributes:
        method: the HTTP method as sent; a client can send any.
        request_id: the id of the request.
        route: the template of the path, such as `/stats/{user_id}`; None if no route was reached.
        key_id: the id of the API key; None without one.
        status: the status of the answer; None if the client left before it began.
        error_code: the code of the error that it was answered with; None without one.
        started: when the request arrived, by time.perf_counter(), in seconds.
        seconds: the time until the whole answer was sent.
    """

    method: str
    request_id: str
    route: str | None = None
    key_id: str | None = None
    status: int | None = None
    error_code: str | None = None
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0


Observer = Callable[[Exchange], None]


class Observed:
    """ASGI middleware, in front of all others, that names each request, and tells observers of it after the answer."""

    def __init__(self, app: ASGIApp, observers: Sequence[Observer]) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, and tell of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = heads.attach(scope)
        exchange = Exchange(head.method, request_id(head.headers))
        REQUEST_ID.set(exchange.request_id)
        attach(scope, exchange)

        # No coroutine, which would cost more than the rest.
        def noting(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, exchange.request_id.encode("ascii"))]
            return send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            exchange.seconds = time.perf_counter() - exchange.started
            for observe in self._observers:
                # The client has its answer: an exception here would close its connection.
                try:
                    observe(exchange)
                except Exception:
                    logger.exception("a request was not observed")


def attach(scope: Scope, exchange: Exchange) -> None:
    """Attach an exchange to its request."""
    scope["state"][_EXCHANGE] = exchange


def id_of(scope: Mapping[str, Any]) -> str:
    """Return the id of a request, which may not have reached the application yet."""
    exchange = scope.get("state", {}).get(_EXCHANGE)
    return exchange.request_id if exchange else request_id(dict(scope["headers"]))


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange that a request belongs to."""
    exchange: Exchange = scope["state"][_EXCHANGE]
    return exchange
