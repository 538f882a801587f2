"""Processes that use the server, and observations of the server from outside."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

from oo_ml.embedded_postgres import Server, postmaster
from tests.waiting import until

TIMEOUT = 20.0

_PROGRAM = """
import sys
from pathlib import Path
from oo_ml.embedded_postgres import running
with running(Path(sys.argv[1]), bin_dir=Path(sys.argv[2]), start_timeout=20, fsync=False) as server:
    print(server.socket_dir, flush=True)
    sys.stdin.readline()
"""


class User:
    """A process that uses the server until it is told to leave."""

    def __init__(self, data_dir: Path, bin_dir: Path, python: str, uid: int | None) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - a program of this test
            [python, "-B", "-c", _PROGRAM, str(data_dir), str(bin_dir)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )

    def server(self) -> Server:
        """Wait until the process uses the server; return the server."""
        assert self.process.stdout is not None
        return Server(Path(self.process.stdout.readline().rstrip("\n")))

    def leave(self) -> None:
        """Let the process leave normally, and wait for its end."""
        self.dismiss()
        assert self.process.wait(TIMEOUT) == 0

    def dismiss(self) -> None:
        """Let the process leave, without waiting."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """End the process with SIGKILL, without any cleanup; do nothing if it has ended."""
        self.process.kill()
        self.process.wait(TIMEOUT)
        for stream in filter(None, (self.process.stdin, self.process.stdout)):
            stream.close()


def pid(data_dir: Path) -> int | None:
    """Return the process id of the server in `data_dir`; None if none is running."""
    cluster = data_dir / "postgres"
    found = postmaster.read_record(cluster)
    return found.pid if found and postmaster.is_alive(cluster) else None


def kill_server(data_dir: Path) -> None:
    """End the server with SIGKILL, and wait for its end."""
    found = pid(data_dir)
    assert found is not None
    os.kill(found, signal.SIGKILL)
    until(lambda: pid(data_dir) is None)


def is_lost(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the session has ended."""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def ask(server: Server, statement: str) -> object:
    """Run `statement` and commit; return the first value of its result."""
    with psycopg.connect(server.url) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None
