"""A transport that sends the head of an answer together with the first piece of its body."""

import asyncio
from typing import Any


class JoinedWrites:
    """A transport that holds a piece back until the next one comes, or the event loop goes on.

    uvicorn writes head and body apart, and uvloop sends each at once: two system calls, and two packets, an answer.
    At most one piece is held, so that a client that is slow to read slows down what is written.
    """

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Send by `transport`; whatever is not about writing is its own."""
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Hold `data`, or send it with what is held."""
        if self._held:
            data, self._held = self._held + data, b""
            self._transport.write(data)
        else:
            self._held = data
            self._loop.call_soon(self._send_held)

    def close(self) -> None:
        """Send what is held, and close."""
        self._send_held()
        self._transport.close()

    def _send_held(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.write(self._held)
        self._held = b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of a transport
        """Return an attribute of the transport itself."""
        return getattr(self._transport, name)
