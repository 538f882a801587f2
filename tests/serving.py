"""The service over real HTTP, inside the test's process."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import uvicorn

from oo_ml.api.app import create_app
from oo_ml.api.http_protocol import limited_protocol
from oo_ml.settings import Settings
from tests import openapi
from tests.waiting import PATIENCE, until

# Plain HTTP needs none, and loading the usual ones takes 30 ms for each client.
NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: its address, and a client of it that holds every answer to the OpenAPI document."""

    url: str
    client: httpx.Client


class _Client(httpx.Client):
    def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:  # noqa: ANN401
        response = super().send(request, stream=stream, **options)
        if not stream:
            openapi.check(response)
        return response


class _Server(uvicorn.Server):
    """Server that stops when it is told to; uvicorn's looks ten times a second, and hundreds of tests would wait."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start."""
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        """Wait for the end."""
        await self.on_tick(0)  # sets the header with the date
        await self._end.wait()

    def stop(self) -> None:
        """Stop, or don't go on after the start."""
        self.should_exit = True
        if self.started:
            self._loop.call_soon_threadsafe(self._end.set)


@contextmanager
def serving(settings: Settings, database_url: str) -> Iterator[Service]:
    """Serve on a free port of the loopback interface until the block ends."""
    server = _Server(
        uvicorn.Config(
            create_app(settings, database_url),
            http=limited_protocol(settings),
            ws="none",
            port=0,
            log_config=None,
            access_log=False,
            lifespan="on",
        )
    )
    thread = threading.Thread(target=server.run, name="service")
    thread.start()
    try:
        url = f"http://127.0.0.1:{_port(server, thread)}"
        with _Client(base_url=url, timeout=PATIENCE, trust_env=False, verify=NO_CERTIFICATES) as client:
            yield Service(url, client)
    finally:
        server.stop()
        thread.join()


def _port(server: uvicorn.Server, thread: threading.Thread) -> int:
    until(lambda: server.started or not thread.is_alive())
    assert server.started, "the service did not start"
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port
