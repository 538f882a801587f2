"""Transactions that PostgreSQL itself aborts, at the step that a test names: a statement, or COMMIT."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event, text

from tests.superuser import superuser


@dataclass(slots=True)
class Step:
    """Counters of an engine: tries begun, steps of the current try, steps of all tries."""

    tries: int = 0
    of_try: int = 0
    of_all: int = 0

    def next(self) -> "Step":
        """Count a step."""
        self.of_try += 1
        self.of_all += 1
        return self


def prepare(db: Engine) -> None:
    """Create a table whose rows make COMMIT fail, by a constraint trigger that is deferred."""
    with superuser(db) as connection:
        connection.execute(text("CREATE TABLE doom (sqlstate text)"))
        connection.execute(text("GRANT INSERT ON doom TO PUBLIC"))
        connection.execute(
            text("""
                CREATE FUNCTION doom() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'aborted' USING ERRCODE = NEW.sqlstate; END $$
            """)
        )
        connection.execute(
            text("""
                CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON doom DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION doom()
            """)
        )


@contextmanager
def abort_steps(db: Engine, sqlstate: str, strikes: Callable[[Step], bool]) -> Iterator[Step]:
    """Abort the transaction at each step for which `strikes` returns True; yield the counters."""
    now = Step()

    def begin(_: Connection) -> None:
        now.tries += 1
        now.of_try = 0

    def execute(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> Any:  # noqa: ANN401
        if strikes(now.next()):
            return f"DO $$ BEGIN RAISE EXCEPTION 'aborted' USING ERRCODE = '{sqlstate}'; END $$", ()
        return statement, parameters

    def commit(connection: Connection) -> None:
        if strikes(now.next()):
            # Not by way of the listener above: this is no step of the service.
            connection.connection.cursor().execute("INSERT INTO doom VALUES (%s)", [sqlstate])

    event.listen(db, "begin", begin)
    event.listen(db, "before_cursor_execute", execute, retval=True)
    event.listen(db, "commit", commit)
    try:
        yield now
    finally:
        event.remove(db, "begin", begin)
        event.remove(db, "before_cursor_execute", execute)
        event.remove(db, "commit", commit)


@contextmanager
def lose_commits(db: Engine) -> Iterator[None]:
    """Let every COMMIT go through, and close the connection before its answer is read."""

    def commit(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.commit()
        driver.close()

    event.listen(db, "commit", commit)
    try:
        yield
    finally:
        event.remove(db, "commit", commit)
