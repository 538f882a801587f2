"""The HTTP protocol of a connection: uvicorn's, with limits, and without upgrades.

A client that offers to upgrade (h2c, websocket, TLS) gets an ordinary answer (RFC 9110, 7.8: a server may ignore the
header). The parser would stop reading there: it would drop the body, or read it as the next request.
"""

import asyncio
from asyncio.events import TimerHandle
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from oo_ml.api.error_statuses import RETRY_AFTER_SECONDS, STATUSES
from oo_ml.api.errors import problem_of
from oo_ml.errors import (
    HeadTooLargeError,
    MalformedRequestError,
    MethodNotAllowedError,
    OoMlError,
    SlowRequestError,
    TooManyConnectionsError,
)
from oo_ml.settings import Settings

_UPGRADE: Final = b"upgrade"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of each connection to a process.

    Attributes:
        connections: open connections, at most; a further one is answered 503 and closed.
        head_bytes: largest head that arrives in pieces.
        head_timeout: longest time from a connection, or the first byte of a request, to the end of its head, seconds.
        body_timeout: longest time from there to the end of the body, seconds.
    """

    connections: int
    head_bytes: int
    head_timeout: float
    body_timeout: float


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A head or a body that has seconds left to arrive."""

    seconds: float
    is_head: bool = False


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Each refusal by the protocol itself is a Problem, and closes the connection."""

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        """Take uvicorn's arguments, and the limits."""
        super().__init__(*arguments, **options)
        self._limits = limits
        self._timer: TimerHandle | None = None
        # The part of a request that is still to come, None between requests; and the one that the timer is for.
        self._allowed: _Part | None = None
        self._timed: _Part | None = None
        # Bytes of a head that is still to come; more than it has if the end of an earlier request came with it.
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._refuse(TooManyConnectionsError())
            return
        self._allowed = _Part(self._limits.head_timeout, is_head=True)
        self._restart_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer too."""
        self._allowed = None
        self._restart_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; read a request that offers an upgrade again, without the offer."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as stop:
                if self.parser.get_method() == b"CONNECT":
                    self._refuse(MethodNotAllowedError())
                    return
                data = self._head_without_upgrade() + data[stop.args[0] :]
                self.parser = self._new_parser()
            except httptools.HttpParserError:
                self._refuse(MalformedRequestError())
                return
        if self._allowed is not None and self._allowed.is_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes:
                self._refuse(HeadTooLargeError())
                return
        else:
            self._head_bytes = 0
        # A request that came as one piece needs no timer.
        self._restart_timer()

    def on_message_begin(self) -> None:
        """Wait for the head."""
        super().on_message_begin()
        self._allowed = _Part(self._limits.head_timeout, is_head=True)

    def on_headers_complete(self) -> None:
        """Begin the request, and wait for the body."""
        if not self.parser.should_upgrade():
            self._allowed = _Part(self._limits.body_timeout)
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing."""
        if not self.parser.should_upgrade():
            self._allowed = None
            super().on_message_complete()

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # As uvicorn sets it: a client may close its half of the connection after a request.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _head_without_upgrade(self) -> bytes:
        head = [b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        # The parser refuses line breaks in names and values, so nothing can be smuggled through here.
        head += [b"%s: %s\r\n" % (name, value) for name, value in self.headers if name != _UPGRADE]
        return b"".join([*head, b"\r\n"])

    def _restart_timer(self) -> None:
        if self._allowed is self._timed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timed = self._allowed
        self._timer = None if self._allowed is None else self.loop.call_later(self._allowed.seconds, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self._refuse(SlowRequestError())

    def _refuse(self, error: OoMlError) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                # An earlier request is still being answered; the connection ends with that answer.
                cycle.keep_alive = False
                return
            # The endpoint waits for the rest of the body: to it, the client has disconnected.
            cycle.disconnected = True
            cycle.message_event.set()
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(_answer(error))
        self.transport.close()


def limited_protocol(settings: Settings) -> Any:  # noqa: ANN401 - uvicorn types a protocol as a class, and calls it
    """Return the protocol for uvicorn, with the limits of the settings."""
    limits = ConnectionLimits(
        connections=settings.max_connections,
        head_bytes=settings.max_head_bytes,
        head_timeout=settings.head_timeout,
        body_timeout=settings.body_timeout,
    )
    return partial(LimitedProtocol, limits=limits)


def _answer(error: OoMlError) -> bytes:
    status = STATUSES[type(error)]
    body = problem_of(error).model_dump_json().encode()
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *([f"retry-after: {RETRY_AFTER_SECONDS}"] if status == HTTPStatus.SERVICE_UNAVAILABLE else []),
        "connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
