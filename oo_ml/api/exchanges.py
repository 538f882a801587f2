"""A request and its answer, as metrics, logs and traces tell of it: the hot calls and the guard's refusals included."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_EXCHANGE: Final = "exchange"


@dataclass(slots=True)
class Exchange:
    """A request and its answer. Nothing in it names a user.

    Attributes:
        method: the HTTP method as sent; a client can send any.
        route: the template of the path, such as `/stats/{user_id}`; None if no route was reached.
        request_id: the id of the request; empty if the head was refused before it was read.
        key_id: the id of the API key; None without one.
        status: the status of the answer; None if the client left before it began.
        error_code: the code of the error that it was answered with; None without one.
        started: when the request arrived, by time.perf_counter(), in seconds.
        seconds: the time until the whole answer was sent.
    """

    method: str
    route: str | None = None
    request_id: str = ""
    key_id: str | None = None
    status: int | None = None
    error_code: str | None = None
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0


Observer = Callable[[Exchange], None]


class Observed:
    """ASGI middleware, in front of all others, that tells observers of each request once it has been answered."""

    def __init__(self, app: ASGIApp, observers: Sequence[Observer]) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, and tell of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope["method"])
        scope["state"] = {**scope.get("state", {}), _EXCHANGE: exchange}

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            exchange.seconds = time.perf_counter() - exchange.started
            for observe in self._observers:
                observe(exchange)


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange that a request belongs to."""
    return cast("Exchange", scope["state"][_EXCHANGE])
