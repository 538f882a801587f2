"""The HTTP protocol of a connection: uvicorn's, with limits, and without upgrades.

A client that offers to upgrade (h2c, websocket, TLS) gets an ordinary answer (RFC 9110, 7.8: a server may ignore the
header). The parser would stop reading there: it would drop the body, or read it as the next request.
"""

import asyncio
from asyncio.events import TimerHandle
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from oo_ml.api.error_statuses import RETRY_AFTER_SECONDS, STATUSES
from oo_ml.api.exchanges import id_of
from oo_ml.api.joined_writes import JoinedWrites
from oo_ml.api.request_ids import HEADER, new_request_id
from oo_ml.api.schemas import Problem
from oo_ml.api.server_state import REFUSED
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


# Requests of one connection that may wait for their turn. Browsers and HTTP libraries send none ahead.
_MOST_PIPELINED: Final = 100


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of each connection to a process.

    Attributes:
        connections: open connections, at most; a further one is answered 503 and closed.
        head_bytes: largest head that arrives in pieces.
        head_timeout: longest time from the first byte of a request to the end of its head, seconds.
        body_timeout: longest time from there to the end of the body, seconds.
        send_timeout: longest time for which a client takes nothing of an answer, seconds.
    """

    connections: int
    head_bytes: int
    head_timeout: float
    body_timeout: float
    send_timeout: float


class _Ignored(list[tuple[bytes, bytes]]):
    """A list of headers that stays empty."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        """Do nothing."""


_IGNORED: Final = _Ignored()


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Each refusal by the protocol itself is a Problem, and closes the connection."""

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401 - uvicorn's
        limits: ConnectionLimits,
        **options: Any,  # noqa: ANN401 - uvicorn's
    ) -> None:
        """Take uvicorn's arguments, and the limits."""
        super().__init__(*arguments, **options)
        self._limits = limits
        # What is waited for: the first byte (this protocol), a head (its scope), a body (its cycle), or nothing (None).
        # Each request has a new scope and cycle, so that two waits differ. `_timed` is what the timer is for.
        self._wait: object = None
        self._wait_seconds = 0.0
        self._timed: object = None
        self._timer: TimerHandle | None = None
        self._send_timer: TimerHandle | None = None
        # True from the first byte of a request to the end of its head.
        self._in_head = False
        # Bytes of such a head; more than it has if the end of an earlier request came with it.
        self._head_bytes = 0
        # The request that is being answered; `cycle` is the latest one, which may have to wait for its turn.
        self._running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, unless there are too many."""
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport, self.loop)))
        if len(self.connections) > self._limits.connections:
            self._refuse(TooManyConnectionsError())
            return
        # A balancer opens connections ahead.
        self._wait, self._wait_seconds = self, self.timeout_keep_alive
        self._restart_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers too."""
        self._wait = None
        self._restart_timer()
        self._stop_send_timer()
        if self._running is not None:
            # uvicorn tells only the latest request, which may be another one.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; read a request that offers an upgrade again, without the offer."""
        received = len(data)
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
        if self._in_head:
            self._head_bytes += received
            if self._head_bytes > self._limits.head_bytes:
                self._refuse(HeadTooLargeError())
                return
        else:
            self._head_bytes = 0
        # A request that came as one piece needs no timer.
        if self._wait is not self._timed:
            self._restart_timer()

    def on_message_begin(self) -> None:
        """Wait for the head."""
        # Here, not for every byte: the parser skips line breaks before a request.
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self._in_head = True
        self._wait, self._wait_seconds = self.scope, self._limits.head_timeout

    def on_headers_complete(self) -> None:
        """Begin the request, and wait for the body."""
        self._in_head = False
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        # The trailers of a body would be added to the headers, which have been checked, without a limit.
        self.headers = _IGNORED
        # Not before: a request that begins at once needs no timer until the bytes that came with its head are read.
        self._wait = None
        if self.cycle is self._running:
            self._wait_for_body()
        elif len(self.pipeline) > _MOST_PIPELINED:
            self.transport.abort()

    def on_message_complete(self) -> None:
        """Wait for nothing."""
        if not self.parser.should_upgrade():
            self._wait = None
            super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for a client that does not take its answer."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(self._limits.send_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on with the answer."""
        self._stop_send_timer()
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - an ASGI application
        self._running = cycle
        if cycle is self.cycle and cycle.more_body and self._wait is None:
            # It had to wait for its turn, and its body was not read meanwhile.
            self._wait_for_body()
            self._restart_timer()
        super()._start_asgi_task(cycle, app)

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

    def _wait_for_body(self) -> None:
        self._wait, self._wait_seconds = self.cycle, self._limits.body_timeout

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timed = self._wait
        self._timer = None if self._wait is None else self.loop.call_later(self._wait_seconds, self._time_out)

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _time_out(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._in_head or (self._running is not None and not self._running.response_complete):
            self._refuse(SlowRequestError())
        else:
            # No byte of a request has come, or it has its answer: a client would take a 408 for the next one's.
            self.transport.close()

    def _refuse(self, error: OoMlError) -> None:
        running = self._running
        name = new_request_id()
        if running is not None and not running.response_complete:
            if running is not self.cycle or not running.more_body:
                # An earlier request is being answered; the connection ends with that answer.
                self.pipeline.clear()
                running.keep_alive = False
                return
            name = id_of(running.scope)
            # The endpoint waits for the rest of the body: to it, the client has disconnected.
            running.disconnected = True
            running.message_event.set()
        if running is None or running.response_complete or not running.response_started:
            self.transport.write(_answer(error, name))
        for observe in self.app_state[REFUSED]:
            observe(error, name)
        self.transport.close()


def limited_protocol(settings: Settings) -> Any:  # noqa: ANN401 - uvicorn types a protocol as a class, and calls it
    """Return the protocol for uvicorn, with the limits of the settings."""
    limits = ConnectionLimits(
        connections=settings.max_connections,
        head_bytes=settings.max_head_bytes,
        head_timeout=settings.head_timeout,
        body_timeout=settings.body_timeout,
        send_timeout=settings.send_timeout,
    )
    return partial(LimitedProtocol, limits=limits)


def _answer(error: OoMlError, name: str) -> bytes:
    status = STATUSES[type(error)]
    body = Problem(detail=error.message, code=error.code, request_id=name).model_dump_json().encode()
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"{HEADER.decode()}: {name}",
        *([f"retry-after: {RETRY_AFTER_SECONDS}"] if status == HTTPStatus.SERVICE_UNAVAILABLE else []),
        "connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
