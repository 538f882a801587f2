"""A reading of the database that is made once for all who ask at the same time."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, cast

Result = TypeVar("Result")


class SharedReading(Generic[Result]):
    """The latest result of a reading. However many ask for a newer one, at most one reading is under way.

    So calls that need no key, or have a wrong one, can't keep the database busy.
    """

    def __init__(self, read: Callable[[], Awaitable[Result]]) -> None:
        """Read nothing yet."""
        self._read = read
        self._result: Result | None = None
        self._began = -math.inf
        self._reading: asyncio.Task[None] | None = None

    @property
    def last(self) -> Result | None:
        """The result of the last reading that succeeded; None before the first."""
        return self._result

    def newer_than(self, asked_at: float) -> Result | None:
        """Return the result if its reading began at the time.monotonic() `asked_at` or later, else None."""
        return self._result if self._began >= asked_at else None

    async def since(self, asked_at: float) -> Result:
        """Return the result of a reading that began at the time.monotonic() `asked_at` or later.

        Raises:
            UnavailableError: the database can't be read now.
        """
        while self._began < asked_at:
            # Shielded: other calls may wait for it as well.
            await asyncio.shield(self._begin())
        return cast("Result", self._result)

    def refresh(self, asked_at: float) -> None:
        """Begin a reading if the last one that succeeded began before `asked_at`, without waiting for its end."""
        if self._began < asked_at:
            self._begin()

    def _begin(self) -> asyncio.Task[None]:
        """Return the reading that is under way; if there is none, begin one."""
        # A finished reading that is not forgotten yet would be waited for without ever letting the loop go on.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_now())
            self._reading.add_done_callback(self._forget)
        return self._reading

    async def _read_now(self) -> None:
        began = time.monotonic()
        self._result = await self._read()
        self._began = began

    def _forget(self, reading: asyncio.Task[None]) -> None:
        if self._reading is reading:
            self._reading = None
        if not reading.cancelled():
            # Each call that waited has raised it. If none did, the result gets too old for one that will.
            reading.exception()
