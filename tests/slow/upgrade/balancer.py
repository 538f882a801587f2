"""A small TCP balancer, which gives each new connection to the next service that is ready."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import httpx

from tests.waiting import PATIENCE, until

_PAUSE: Final = 0.05
_CHUNK: Final = 65_536


@dataclass(slots=True)
class _Service:
    port: int
    is_ready: bool = False
    probe: Future[None] | None = None


@dataclass(slots=True)
class Balancer:
    """A running balancer.

    Attributes:
        url: the address for clients.
        rejected: connections that came while no service was ready.
    """

    _loop: asyncio.AbstractEventLoop
    url: str = ""
    rejected: int = 0
    _services: dict[int, _Service] = field(default_factory=dict)
    _turns: Iterator[int] = field(default_factory=count)

    def add(self, port: int) -> None:
        """Give connections to the service at this port too; return as soon as it is ready."""
        service = self._services[port] = _Service(port)
        service.probe = asyncio.run_coroutine_threadsafe(_probe(service), self._loop)
        until(lambda: service.is_ready)

    def wait_until_unready(self, port: int) -> None:
        """Return as soon as the service at this port gets no new connection."""
        until(lambda: not self._services[port].is_ready)

    def remove(self, port: int) -> None:
        """Forget a service that has stopped."""
        probe = self._services.pop(port).probe
        assert probe is not None
        probe.cancel()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the bytes of a client's connection, until the client or the service closes it."""
        ready = [service for service in self._services.values() if service.is_ready]
        turn = next(self._turns) % max(len(ready), 1)
        for service in ready[turn:] + ready[:turn]:
            with suppress(OSError):
                answers, calls = await asyncio.open_connection("127.0.0.1", service.port)
                await _carry_both(reader, calls, answers, writer)
                return
        self.rejected += 1
        writer.close()


@contextmanager
def running_balancer() -> Iterator[Balancer]:
    """Run a balancer on a free port until the block ends. It has no services yet."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="balancer")
    thread.start()
    balancer = Balancer(loop)
    try:
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(balancer.carry, "127.0.0.1", 0), loop).result()
        balancer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield balancer
        finally:
            asyncio.run_coroutine_threadsafe(_stop(server), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def _probe(service: _Service) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=PATIENCE, trust_env=False) as one:
        while True:
            try:
                service.is_ready = (await one.get("/readyz")).status_code == httpx.codes.OK
            except httpx.TransportError:
                service.is_ready = False
            await asyncio.sleep(_PAUSE)


async def _carry_both(
    client: asyncio.StreamReader,
    calls: asyncio.StreamWriter,
    answers: asyncio.StreamReader,
    to_client: asyncio.StreamWriter,
) -> None:
    """Carry calls and answers; when one side has ended, close both connections."""
    ways = [asyncio.ensure_future(_carry(client, calls)), asyncio.ensure_future(_carry(answers, to_client))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        calls.close()
        to_client.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
