"""SIGTERM to commands, also as process 1, as which a container runs them."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from oo_ml.cli.exit_codes import ExitCode
from tests.commands import command_line, environment, start
from tests.fifos import held_reader
from tests.gates import wait_until_blocked
from tests.sessions import writing
from tests.waiting import PATIENCE, until

# A migration must not give up before the signal arrives.
PATIENT = {"OO_ML_MIGRATION_LOCK_TIMEOUT": 60}
# Process 1 of a namespace, as in a container. `unshare` ends with the exit code of its child.
AS_PROCESS_1 = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


Sessions = Callable[[], list[list[int]]]


@pytest.fixture
def holder(empty_postgresql: psycopg.Connection[Any]) -> int:
    """The server process of a session that holds what the first migration waits for."""
    empty_postgresql.execute("CREATE SCHEMA analytics")
    return empty_postgresql.info.backend_pid


@pytest.fixture
def sessions(empty_database_url: str, holder: int) -> Iterator[Sessions]:
    """A function that returns, for each session of the command, the server processes that it waits for."""
    query = (
        "SELECT pg_blocking_pids(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)"
    )
    with closing(psycopg.connect(empty_database_url, autocommit=True)) as watcher:
        yield lambda: [blocking for (blocking,) in watcher.execute(query, [holder])]


def test_sigterm_in_a_transaction(
    empty_postgresql: psycopg.Connection[Any], empty_database_url: str, holder: int, sessions: Sessions
) -> None:
    """A migration that waits for a lock ends with 143, cancels its statement and rolls back."""
    process = start("db", "upgrade", OO_ML_DATABASE_URL=empty_database_url, **PATIENT)
    with ended(process):
        until(lambda: sessions() == [[holder]])
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == ExitCode.TERMINATED
    assert "Traceback" not in err
    # The lock is still held: without the cancellation the session would wait for it.
    until(lambda: sessions() == [])
    empty_postgresql.rollback()
    tables = empty_postgresql.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'oo_ml'").fetchone()
    assert tables == (0,)


@pytest.mark.parametrize("words", ["upkeep", "policies fit pooled-v1"])
def test_sigterm_beside_a_worker(words: str, service_url: str, db: Engine, admin: Engine) -> None:
    """A command whose transactions run in another thread does not wait for the end of the transaction."""
    limits = ("REQUEST_TIMEOUT", "STATEMENT_TIMEOUT", "LOCK_TIMEOUT", "LONG_TIMEOUT")
    patient = {f"OO_ML_{limit}": 10 * PATIENCE for limit in limits}
    with writing(admin) as connection:
        connection.execute(text("LOCK TABLE oo_ml.policies IN ACCESS EXCLUSIVE MODE"))
        process = start(*words.split(), OO_ML_DATABASE_URL=service_url, **patient)
        with ended(process):
            wait_until_blocked(db, 1)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == ExitCode.TERMINATED
    assert "Traceback" not in err


def test_sigterm_to_process_1(empty_database_url: str, holder: int, sessions: Sessions) -> None:
    """The kernel delivers the signal to process 1 as well, because the command handles it."""
    skip_without_namespaces()
    process = run_as_process_1("db", "upgrade", OO_ML_DATABASE_URL=empty_database_url, **PATIENT)
    with ended(process):
        until(lambda: sessions() == [[holder]])
        os.kill(child(process), signal.SIGTERM)
        assert process.wait(PATIENCE) == ExitCode.TERMINATED
    until(lambda: sessions() == [])


def test_sigterm_to_process_1_before_it_serves(tmp_path: Path) -> None:
    """`oo-ml serve` stops while it reads its settings, before its own handler is set."""
    skip_without_namespaces()
    secret = tmp_path / "session-key"
    os.mkfifo(secret)
    process = run_as_process_1("serve", OO_ML_SESSION_KEY_FILE=secret)
    with ended(process), held_reader(secret, lambda: child(process)) as reader:
        os.kill(reader, signal.SIGTERM)
        assert process.wait(PATIENCE) == ExitCode.TERMINATED


def skip_without_namespaces() -> None:
    """Skip the test where no process may be process 1 of a namespace of its own."""
    try:
        subprocess.run([*AS_PROCESS_1, "true"], check=True, capture_output=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system forbids user namespaces")


def run_as_process_1(*words: str, **variables: object) -> subprocess.Popen[str]:
    """Start `oo-ml` as process 1 of a namespace."""
    return subprocess.Popen(  # noqa: S603 - our own program
        [*AS_PROCESS_1, *command_line(*words)],
        env=environment(**variables),
        cwd="/",
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def child(process: subprocess.Popen[str]) -> int:
    """Return the only child of a process."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii"))


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a process at the end of the block if it still runs."""
    try:
        yield
    finally:
        process.kill()
        process.communicate()
