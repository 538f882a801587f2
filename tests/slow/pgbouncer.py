"""A real PgBouncer in transaction mode, in front of the tests' PostgreSQL, for the length of a block."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import make_url

from oo_ml.embedded_postgres import binaries
from oo_ml.embedded_postgres.account import Account, choose_account
from tests.conftest import ROLES
from tests.run_directory import run_directory
from tests.waiting import PATIENCE, until

# For each role and database. Fewer than the connections of a service, so that these do share sessions.
POOL_SIZE: Final = 2

_PORT: Final = 6432  # names the socket
_FILE: Final = "pgbouncer.ini"
_CONFIGURATION: Final = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr =
listen_port = {listen_port}
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users.txt
pool_mode = transaction
default_pool_size = {pool_size}
ignore_startup_parameters = {ignored}
"""


@dataclass(slots=True)
class Bouncer:
    """A PgBouncer whose socket, and configuration, are in `directory`; it runs as the account of the server."""

    directory: Path
    account: Account
    _process: subprocess.Popen[bytes] | None = None

    def url_through(self, url: str) -> str:
        """Return the address by which the same role gets to the same database through it."""
        query = {"host": str(self.directory), "port": str(_PORT)}
        return make_url(url).set(query=query).render_as_string()

    def start(self) -> None:
        """Start it, and wait until it listens. Its log is the test's stderr, which pytest shows on failure."""
        process = subprocess.Popen(  # noqa: S603 - Debian's program
            [*self.account.prefix, executable(), str(self.directory / _FILE)],
            **self.account.identity,
            stdin=subprocess.DEVNULL,
        )
        self._process = process
        until(lambda: _listens(self.directory) or process.poll() is not None)
        assert process.poll() is None, "PgBouncer did not start"

    def stop(self) -> None:
        """Stop it, and with it every connection through it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)


def executable() -> str:
    """Return the program. Without it the test is skipped; where CI is set it fails."""
    # Debian puts it where only root's PATH leads.
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
    if found is None:
        missing = "needs PgBouncer: apt-get install pgbouncer"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@contextmanager
def running_bouncer(host: str, port: int, ignored: str = "") -> Iterator[Bouncer]:
    """Run PgBouncer in front of the server at `host`.

    It refuses parameters of a login that it does not know, unless they are `ignored`.
    """
    executable()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-", dir=run_directory()) as made:
        directory = Path(made)
        configuration = _CONFIGURATION.format(
            host=host, port=port, listen_port=_PORT, directory=directory, pool_size=POOL_SIZE, ignored=ignored
        )
        (directory / _FILE).write_text(configuration)
        (directory / "users.txt").write_text("".join(f'"{role}" ""\n' for role in ROLES))
        # It refuses to run as root, and has to get to the server's socket: so it runs as the server does.
        data_dir = Path(host).parent
        account = choose_account(data_dir, data_dir / "postgres", binaries.find(None))
        os.chown(directory, account.uid, account.gid)
        bouncer = Bouncer(directory, account)
        try:
            bouncer.start()
            yield bouncer
        finally:
            bouncer.stop()


def _listens(directory: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(directory / f".s.PGSQL.{_PORT}")) == 0


@contextmanager
def all_sessions(url: str) -> Iterator[list[psycopg.Connection[Any]]]:
    """Yield connections through PgBouncer, each in a transaction on a session of its own: all those of the pool."""
    with ExitStack() as held:
        yield [_begin(held.enter_context(psycopg.connect(url, autocommit=True))) for _ in range(POOL_SIZE)]


def _begin(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    connection.execute("BEGIN")
    return connection
