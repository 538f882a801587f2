"""A language model gateway on loopback that a test scripts: it answers well, badly, late, or not at all.

`with running_gateway() as gateway:` starts one. `gateway.script(...)` sets the behaviours of successive calls; the
last one repeats. `gateway.requests` holds the calls. It speaks real HTTP and runs in a thread of its own.
"""

import asyncio
import gzip
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

END_OF_HEADERS = b"\r\n\r\n"
DRIP_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Request:
    """A call that reached the gateway; header names are in lower case, `body` is the JSON sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, object]


@dataclass(frozen=True, slots=True)
class Exchange:
    """The connection of a call, and the event that `let_go` sets."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    released: asyncio.Event


Behaviour = Callable[[Exchange], Awaitable[None]]


def answer(status: int, body: bytes | str, content_type: str = "application/json", **headers: str) -> Behaviour:
    """Answer with this status and body."""
    raw = body if isinstance(body, bytes) else body.encode()

    async def behave(exchange: Exchange) -> None:
        exchange.writer.write(_head(status, content_type, **{"content-length": str(len(raw)), **headers}) + raw)
        await exchange.writer.drain()

    return behave


def completion(content: object, **changes: object) -> Behaviour:
    """Answer with a chat completion whose message has this content; `changes` replace fields, None removes one."""
    fields: dict[str, object] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "test-model",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }
    return answer(200, json.dumps({name: value for name, value in (fields | changes).items() if value is not None}))


def tips(*contents: str) -> Behaviour:
    """Answer with a good array of these tips."""
    return completion(
        json.dumps([{"id": f"t{i}", "content": text, "rationale": "r"} for i, text in enumerate(contents)])
    )


def hold(then: Behaviour) -> Behaviour:
    """Keep the client waiting until the test calls `let_go`, or the client hangs up."""

    async def behave(exchange: Exchange) -> None:
        waits = [asyncio.ensure_future(wait) for wait in (exchange.released.wait(), exchange.reader.read(1))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if exchange.released.is_set():
            await then(exchange)

    return behave


def drip() -> Behaviour:
    """Start an answer and go on with a byte now and then, for as long as the client listens."""

    async def behave(exchange: Exchange) -> None:
        exchange.writer.write(_head(200, "application/json"))
        while True:
            exchange.writer.write(b" ")
            await exchange.writer.drain()
            with suppress(TimeoutError):
                # The client sends nothing more, so this only sets the pace, and fails when the client hangs up.
                await asyncio.wait_for(exchange.reader.readexactly(1), DRIP_SECONDS)

    return behave


def flood() -> Behaviour:
    """Send an answer without end."""

    async def behave(exchange: Exchange) -> None:
        exchange.writer.write(_head(200, "application/json"))
        while True:
            exchange.writer.write(b" " * 65_536)
            await exchange.writer.drain()

    return behave


def bomb(size: int) -> Behaviour:
    """Answer compressed, although the client did not ask for it: few bytes that unpack to `size`."""
    return answer(200, gzip.compress(b" " * size), **{"content-encoding": "gzip"})


def cut(after: bytes = b"") -> Behaviour:
    """Drop the connection after these bytes of an answer."""

    async def behave(exchange: Exchange) -> None:
        exchange.writer.write(after)
        await exchange.writer.drain()
        exchange.writer.close()

    return behave


def send_half_an_answer() -> Behaviour:
    """Announce an answer of a hundred bytes, send three and drop the connection."""
    return cut(_head(200, "application/json", **{"content-length": "100"}) + b"{  ")


@dataclass(slots=True)
class Gateway:
    """A running gateway: its address, its calls, and the number of connections."""

    loop: asyncio.AbstractEventLoop
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    behaviours: list[Behaviour] = field(default_factory=lambda: [tips("One", "Two", "Three")])
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def script(self, *behaviours: Behaviour) -> None:
        """Set the behaviours of the calls from now on; the last one repeats. Clears the recorded calls."""
        self.requests.clear()
        self.behaviours = list(behaviours)

    def let_go(self) -> None:
        """Answer the calls that `hold` keeps waiting, and those to come."""
        self.loop.call_soon_threadsafe(self.released.set)


@contextmanager
def running_gateway() -> Iterator[Gateway]:
    """Run a gateway on a free port until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway")
    thread.start()
    gateway = Gateway(loop)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(lambda reader, writer: _serve(gateway, reader, writer), "127.0.0.1", 0)

    async def stop(server: asyncio.Server) -> None:
        server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    try:
        server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        gateway.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield gateway
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _serve(gateway: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Handle one connection, call after call."""
    gateway.connections += 1
    try:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                gateway.requests.append(await _read(reader))
                behave = gateway.behaviours.pop(0) if len(gateway.behaviours) > 1 else gateway.behaviours[0]
                await behave(Exchange(reader, writer, gateway.released))
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    start, *lines = (await reader.readuntil(END_OF_HEADERS)).decode("latin-1").strip().split("\r\n")
    method, path, _ = start.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(method, path, headers, json.loads(await reader.readexactly(int(headers["content-length"]))))


def _head(status: int, content_type: str, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", f"content-type: {content_type}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()
