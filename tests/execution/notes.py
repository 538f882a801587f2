"""Lanes for one test, and services for them: one inserts a row for each command, another one waits at a gate."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from sqlalchemy import Connection, Engine, text

from oo_ml.errors import UnavailableError
from oo_ml.execution.lanes import Lanes, Limits
from oo_ml.storage.postgres import engine
from oo_ml.storage.postgres.sessions import Writing
from tests.conftest import make_settings
from tests.sessions import writing
from tests.superuser import superuser
from tests.waiting import PATIENCE

# A CHECK constraint refuses rows with this number.
FORBIDDEN: Final = -1

_WRITE: Final = text("""
    INSERT INTO notes (service, user_id, number)
    SELECT :service, user_id, number
    FROM unnest(CAST(:user_ids AS text[]), CAST(:numbers AS integer[])) WITH ORDINALITY AS n (user_id, number, place)
    ORDER BY place
""")


@dataclass(frozen=True, slots=True)
class Note:
    """A command: insert a row."""

    user_id: str
    number: int


def notes(user_ids: str) -> list[Note]:
    """Return a note for each user named, numbered from 1."""
    return [Note(user_id, number) for number, user_id in enumerate(user_ids.split(), 1)]


def prepare(db: Engine) -> None:
    """Create the table that scribes write to."""
    with superuser(db) as connection:
        connection.execute(
            text(f"""
                CREATE TABLE notes (
                    place bigint GENERATED ALWAYS AS IDENTITY,
                    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
                    service text NOT NULL,
                    user_id text NOT NULL,
                    number integer NOT NULL CHECK (number <> {FORBIDDEN})
                )
            """)
        )
        connection.execute(text("GRANT ALL ON notes TO PUBLIC"))


def read_written(db: Engine) -> list[list[Note]]:
    """Return the committed notes of each transaction, in the order in which they were written."""
    rows: dict[int, list[Note]] = {}
    with writing(db) as connection:
        for transaction, *note in connection.execute(
            text("SELECT CAST(transaction AS text), user_id, number FROM notes ORDER BY place")
        ):
            rows.setdefault(transaction, []).append(Note(*note))
    return list(rows.values())


@dataclass(slots=True, eq=False)
class Scribe:
    """A service that inserts its notes and returns their numbers.

    Attributes:
        name: stored with each note.
        before: called first, with the connection and the notes.
        calls: the batches it was called with, tries that failed included.
    """

    name: str = "scribe"
    before: Callable[[Writing, Sequence[Note]], object] = lambda *_: None
    calls: list[list[Note]] = field(default_factory=list)

    def __call__(self, connection: Writing, commands: Sequence[Note]) -> list[int]:
        """Insert the notes."""
        self.calls.append(list(commands))
        self.before(connection, commands)
        connection.execute(
            _WRITE,
            {
                "service": self.name,
                "user_ids": [note.user_id for note in commands],
                "numbers": [note.number for note in commands],
            },
        )
        return [note.number for note in commands]


@dataclass(slots=True, eq=False)
class Gate:
    """A service that keeps its lane busy until the gate is opened."""

    began: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def __call__(self, connection: Connection, commands: Sequence[None]) -> list[None]:
        """Wait."""
        self.began.set()
        assert self.opened.wait(PATIENCE)
        connection.execute(text("SELECT 1"))
        return [None] * len(commands)


@contextmanager
def running(
    url: str,
    *,
    lanes: int = 1,
    batch: int = 64,
    queue: int = 256,
    one_user: bool = False,
    **settings: Any,  # noqa: ANN401
) -> Iterator[tuple[Lanes, Engine]]:
    """Yield lanes for one test, and their engine; close them at the end."""
    given = make_settings(**settings)
    limits = Limits(
        batch=batch,
        queue=queue,
        timeout=given.request_timeout,
        lock_timeout=given.lock_timeout,
        lane_lock_timeout=given.lane_lock_timeout,
        one_user=one_user,
    )
    own = engine.create(url, given, threads=lanes, lanes=True)
    some = Lanes(own, lanes, limits)
    try:
        yield some, own
    finally:
        some.close()


@asynccontextmanager
async def busy(lanes: Lanes, user_id: str = "-") -> AsyncIterator[Gate]:
    """Keep the lane of a user busy until the block ends, or the gate is opened."""
    gate = Gate()
    held = asyncio.create_task(_hold(lanes, gate, user_id))
    await wait_for(gate.began)
    try:
        yield gate
    finally:
        gate.opened.set()
        await held


async def _hold(lanes: Lanes, gate: Gate, user_id: str) -> None:
    while not gate.began.is_set():
        # It may wait past its deadline, and on a busy machine it may have begun too late.
        with suppress(UnavailableError):
            await lanes.run(gate, user_id, None)


@contextmanager
def hurried(lanes: Lanes, seconds: float) -> Iterator[None]:
    """Let the commands that are sent in the block have a deadline after so many seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "_timeout", seconds)
        yield


async def wait_for(event: threading.Event) -> None:
    """Return as soon as a thread has set the event."""
    assert await asyncio.to_thread(event.wait, PATIENCE)


async def send(lanes: Lanes, service: Scribe, commands: Sequence[Note]) -> list[asyncio.Task[Any]]:
    """Hand notes to their lanes in this order, each from a handler of its own."""
    handlers = [asyncio.create_task(lanes.run(service, note.user_id, note)) for note in commands]
    # After one turn of the event loop each of them has begun.
    await asyncio.sleep(0)
    return handlers


async def outcomes(handlers: Sequence[asyncio.Task[Any]]) -> list[Any]:
    """Return the outcome of each handler: a result or an error."""
    return list(await asyncio.gather(*handlers, return_exceptions=True))


async def send_together(lanes: Lanes, service: Scribe, commands: Sequence[Note]) -> list[Any]:
    """Send notes to a busy lane, so that its next transaction finds all of them; return their outcomes."""
    async with busy(lanes):
        handlers = await send(lanes, service, commands)
    return await outcomes(handlers)


async def send_until_done(lanes: Lanes, service: Scribe, note: Note) -> Any:  # noqa: ANN401
    """Return the outcome of a note, sent again until it succeeds: on a busy machine the first tries may time out."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(UnavailableError):
                return await lanes.run(service, note.user_id, note)
