"""Use of the private PostgreSQL: the first process starts it, the last one stops it.

Each process that uses the server holds users.lock, shared. Processes join and leave under start.lock, so no process
joins while the last one stops the server. A leaving process that gets users.lock exclusively was the last.
"""

import fcntl
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from oo_ml.domain.identifiers import is_storable
from oo_ml.embedded_postgres import binaries, cluster, postmaster
from oo_ml.embedded_postgres.account import Account, choose_account
from oo_ml.embedded_postgres.files import hold_lock, make_directory, open_file, try_lock
from oo_ml.embedded_postgres.programs import Programs
from oo_ml.errors import EmbeddedPostgresError

logger = logging.getLogger(__name__)

# The longest socket address on macOS; on Linux it is four bytes longer.
_LONGEST_SOCKET_PATH = 103


@dataclass(frozen=True, slots=True)
class Server:
    """Address of a running server. It has no password: other accounts can't enter the socket's directory."""

    socket_dir: Path
    port: int = postmaster.PORT
    user: str = cluster.ROLE
    database: str = cluster.DATABASE

    @property
    def url(self) -> str:
        """The address for SQLAlchemy, psycopg and psql."""
        return f"postgresql://{self.user}@/{self.database}?host={quote(str(self.socket_dir))}&port={self.port}"


@contextmanager
def running(
    data_dir: Path,
    *,
    bin_dir: Path | None,
    start_timeout: float,
    fsync: bool = True,
    meanwhile: Callable[[], object] | None = None,
) -> Iterator[Server]:
    """Start or join the server in `data_dir`; the last process that leaves stops it.

    Args:
        data_dir: directory of its data (`postgres`), log and locks; created if it is missing.
        bin_dir: directory of PostgreSQL's programs; None: those of the wheel or of an installed server.
        start_timeout: seconds, for joining and for leaving.
        fsync: False gives up the promise that a commit is on disk; for tests.
        meanwhile: called while the server starts; not called if it is running already.

    Raises:
        EmbeddedPostgresError: no PostgreSQL was found, or it does not start; the message says what to do.
    """
    with ExitStack() as held:
        try:
            server = _join(held, data_dir.resolve(), bin_dir, start_timeout, fsync=fsync, meanwhile=meanwhile)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The private PostgreSQL in {data_dir} can't be used: {error} (OO_ML_DATA_DIR names its directory)"
            ) from error
        yield server


def _join(  # noqa: PLR0913 - those of `running`
    held: ExitStack,
    data_dir: Path,
    bin_dir: Path | None,
    timeout: float,
    *,
    fsync: bool,
    meanwhile: Callable[[], object] | None,
) -> Server:
    deadline = time.monotonic() + timeout
    if not is_storable(str(data_dir)):
        raise EmbeddedPostgresError(f"The name of the data directory {str(data_dir)!r} is not UTF-8")
    bin_dir = binaries.find(bin_dir)
    make_directory(data_dir)
    data = data_dir / "postgres"
    users = held.enter_context(open_file(data_dir / "users.lock", os.O_RDWR))
    with hold_lock(data_dir / "start.lock", deadline) as lock:
        try_lock(users, fcntl.LOCK_SH)  # never refused: a process holds it exclusively only under the start lock
        account = choose_account(data_dir, data, bin_dir)
        socket_dir = _socket_dir(data_dir, data, account)
        held.callback(_leave, data_dir, data, socket_dir, users, timeout)
        if not postmaster.accepts_connections(socket_dir, bin_dir):
            programs = Programs(bin_dir, account)
            cluster.ensure(data, programs, fsync=fsync, deadline=deadline, lock=lock)
            socket_dir.chmod(0o700)
            os.chown(socket_dir, account.uid, account.gid)
            postmaster.start(data, socket_dir, programs, fsync=fsync, deadline=deadline, meanwhile=meanwhile)
    logger.info("PostgreSQL keeps its data in %s and its log in %s.log", data, data)
    return Server(socket_dir)


# ADR 4
def _leave(data_dir: Path, data: Path, socket_dir: Path, users: int, timeout: float) -> None:
    try:
        with hold_lock(data_dir / "start.lock", time.monotonic() + timeout):
            try:
                if try_lock(users, fcntl.LOCK_EX):
                    _stop(data_dir, data, socket_dir, timeout)
            finally:
                # Release it before the start lock, or the next leaving process would not see that it is the last.
                fcntl.flock(users, fcntl.LOCK_UN)
    except (EmbeddedPostgresError, OSError) as error:
        # Not raised, because it would hide the caller's own error. The next start joins a server that is left running.
        logger.warning("PostgreSQL in %s was left running: %s", data_dir, error)


def _stop(data_dir: Path, data: Path, socket_dir: Path, timeout: float) -> None:
    if not postmaster.stop(data, timeout):
        logger.error("PostgreSQL does not stop; it still uses %s", data)
    elif socket_dir.parent != data_dir:
        shutil.rmtree(socket_dir, ignore_errors=True)


def _socket_dir(data_dir: Path, data: Path, account: Account) -> Path:
    """Return a directory in the data directory or, if clients could not use that, a private one in /tmp."""
    usual = data_dir / "socket"
    # Clients read a comma in the address as a separator of several servers.
    if len(os.fsencode(usual / f".s.PGSQL.{postmaster.PORT}")) <= _LONGEST_SOCKET_PATH and "," not in str(usual):
        usual.mkdir(mode=0o700, exist_ok=True)
        return usual
    found = postmaster.read_record(data)
    if found and found.socket_dir and found.data_dir == str(data) and _is_private(found.socket_dir, account):
        return Path(found.socket_dir)
    # Not TMPDIR, because its path may be too long as well.
    return Path(tempfile.mkdtemp(prefix="oo-ml-", dir="/tmp"))


def _is_private(path: str, account: Account) -> bool:
    # After a reboot the directory may belong to another account.
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == stat.S_IRWXU and found.st_uid == account.uid
