"""Lanes of a test's own, and services for them: some write down what they were asked for, one waits at a gate."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Engine, text

from oo_ml.errors import UnavailableError
from oo_ml.execution.lanes import Lanes, Limits
from oo_ml.storage.postgres import engine
from tests.conftest import make_settings
from tests.superuser import superuser
from tests.waiting import PATIENCE

# What no note may have: its row is refused by the database.
FORBIDDEN: Final = -1

_WRITE: Final = text("""
    INSERT INTO notes (service, user_id, number)
    SELECT :service, user_id, number
    FROM unnest(CAST(:user_ids AS text[]), CAST(:numbers AS integer[])) WITH ORDINALITY AS n (user_id, number, place)
    ORDER BY place
""")


@dataclass(frozen=True, slots=True)
class Note:
    """A command: to be written down."""

    user_id: str
    number: int


def notes(user_ids: str) -> list[Note]:
    """Return a note of each of the users named, with the numbers from 1 on."""
    return [Note(user_id, number) for number, user_id in enumerate(user_ids.split(), 1)]


def prepare(db: Engine) -> None:
    """Make the table that scribes write into."""
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


def written(db: Engine) -> list[list[Note]]:
    """Return what has been committed: the notes of each transaction, in the order in which they were written."""
    rows: dict[int, list[Note]] = {}
    with db.begin() as connection:
        for transaction, *note in connection.execute(
            text("SELECT CAST(transaction AS text), user_id, number FROM notes ORDER BY place")
        ):
            rows.setdefault(transaction, []).append(Note(*note))
    return list(rows.values())


@dataclass(slots=True, eq=False)
class Scribe:
    """A service that writes its notes down, and gives their numbers back.

    Attributes:
        name: told apart from others by it.
        before: what it does first.
        calls: what it has been called with.
    """

    name: str = "scribe"
    before: Callable[[Connection, Sequence[Note]], object] = lambda *_: None
    calls: list[list[Note]] = field(default_factory=list)

    def __call__(self, connection: Connection, commands: Sequence[Note]) -> list[int]:
        """Write."""
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
    """A service that keeps its lane busy until it is opened."""

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
    """Lanes of a test's own, patient with locked rows unless `settings` say otherwise, and the engine they use."""
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
    held = asyncio.create_task(lanes.run(gate, user_id, None))
    await passed(gate.began)
    try:
        yield gate
    finally:
        gate.opened.set()
        # It may have waited for longer than its caller would.
        with suppress(UnavailableError):
            await held


async def passed(event: threading.Event) -> None:
    """Return as soon as a thread has set it."""
    assert await asyncio.to_thread(event.wait, PATIENCE)


async def send(lanes: Lanes, service: Scribe, commands: Sequence[Note]) -> list[asyncio.Task[Any]]:
    """Hand notes to their lanes, as handlers would that come in this order."""
    handlers = [asyncio.create_task(lanes.run(service, note.user_id, note)) for note in commands]
    # Every one of them has begun after one turn of the event loop.
    await asyncio.sleep(0)
    return handlers


async def outcomes(handlers: Sequence[asyncio.Task[Any]]) -> list[Any]:
    """Return what each handler was told, be it an error."""
    return list(await asyncio.gather(*handlers, return_exceptions=True))


async def together(lanes: Lanes, service: Scribe, commands: Sequence[Note]) -> list[Any]:
    """Send notes to a lane that is busy, so that it finds all of them when it is done; return what they were told."""
    async with busy(lanes):
        handlers = await send(lanes, service, commands)
    return await outcomes(handlers)


async def recovered(lanes: Lanes, service: Scribe, note: Note) -> Any:  # noqa: ANN401
    """Return what a note is told once its lane is well; a busy machine may be too slow for the first few."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(UnavailableError):
                return await lanes.run(service, note.user_id, note)
