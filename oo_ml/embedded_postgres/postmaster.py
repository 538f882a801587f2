"""The server's first process: check it, start it and stop it.

PostgreSQL's file postmaster.pid has its process id and its socket. `pg_ctl` trusts that file even if the id now belongs
to another process or to a zombie. Both are common in containers after a kill -9, so `pg_ctl` is not used.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from oo_ml.embedded_postgres.binaries import call
from oo_ml.embedded_postgres.files import open_file, pause
from oo_ml.embedded_postgres.programs import Programs, spawn
from oo_ml.errors import EmbeddedPostgresError

PORT = 5432  # a part of the name of the socket file; the server does not listen on TCP

_LOG_BYTES = 8 * 2**20
_LOG_LINES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Record:
    """Contents of postmaster.pid; the file remains after a crash."""

    pid: int
    data_dir: str
    socket_dir: str | None


def read_record(cluster: Path) -> Record | None:
    """Return the record of the last server of `cluster`; None if the server ended normally."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    # The server writes the file step by step while it starts; the fifth line is the socket's directory.
    match lines:
        case [pid, data_dir, _, _, socket_dir, *_] if pid.isdigit():
            return Record(int(pid), data_dir, socket_dir)
        case [pid, data_dir, *_] if pid.isdigit():
            return Record(int(pid), data_dir, None)
    return None


def is_alive(cluster: Path) -> bool:
    """Tell whether the process in postmaster.pid is a server of `cluster`."""
    found = read_record(cluster)
    if found is None:
        return False
    try:
        if Path("/proc/self/cwd").exists():
            # The working directory of a server is its data. A zombie, or a process that reuses the id, has another one.
            return Path(f"/proc/{found.pid}/cwd").samefile(cluster)
        os.kill(found.pid, 0)
    except OSError:
        return False
    return True


def accepts_connections(socket_dir: Path, bin_dir: Path) -> bool:
    """Tell whether a server accepts connections in `socket_dir`."""
    address = [f"--host={socket_dir}", f"--port={PORT}", "--username=postgres", "--dbname=postgres"]
    return call([f"{bin_dir}/pg_isready", "--timeout=2", *address]).returncode == 0


def start(  # noqa: PLR0913 - what to start, and how long to wait
    cluster: Path,
    socket_dir: Path,
    programs: Programs,
    *,
    fsync: bool,
    deadline: float,
    meanwhile: Callable[[], object] | None = None,
) -> None:
    """Start a server of `cluster`, unless an orphaned one is starting, and wait until it accepts connections.

    `meanwhile` is called once, while the server starts.
    """
    log = cluster.with_name(f"{cluster.name}.log")
    while not is_alive(cluster) and _has_orphans(cluster):
        _wait(deadline, "An earlier server was killed, and some of its processes are still running", log)
    child = None if is_alive(cluster) else _spawn(cluster, socket_dir, programs, log, fsync=fsync)
    try:
        if meanwhile is not None:
            meanwhile()
        while not accepts_connections(socket_dir, programs.bin_dir):
            if not is_alive(cluster) and (child is None or child.poll() is not None):
                raise EmbeddedPostgresError(f"PostgreSQL did not start. {_end_of(log)}{programs.account.hint}")
            _wait(deadline, "PostgreSQL does not answer", log)
    finally:
        if child is not None and child.poll() is None:
            child.returncode = 0  # not waited for here: the last process that leaves stops the server


def stop(cluster: Path, timeout: float) -> bool:
    """Stop the server of `cluster`, if any; return whether it ended within `timeout` seconds for each signal."""
    # SIGINT: fast, rolls back open transactions. SIGQUIT: immediate, the next start recovers.
    for how in (signal.SIGINT, signal.SIGQUIT):
        found = read_record(cluster)
        if found is None or not is_alive(cluster):
            return True
        with suppress(ProcessLookupError):
            os.kill(found.pid, how)
        if _is_gone(cluster, time.monotonic() + timeout):
            with suppress(ChildProcessError):  # another process started it
                os.waitpid(found.pid, 0)
            return True
    return False


def _is_gone(cluster: Path, deadline: float) -> bool:
    while is_alive(cluster):
        if time.monotonic() > deadline:
            return False
        pause()
    return True


def _spawn(cluster: Path, socket_dir: Path, programs: Programs, log: Path, *, fsync: bool) -> subprocess.Popen[bytes]:
    quoted = str(socket_dir).replace('"', '""')
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": f'"{quoted}"',
        "unix_socket_permissions": "0700",
        "port": PORT,
        "fsync": fsync,
        # Enough for a dozen services with a dozen connections each; initdb chooses less on a small machine.
        "max_connections": 200,
        # Times as text look the same on every machine.
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    words = ["postgres", "-D", f"{cluster}"]
    for name, value in settings.items():
        words += ["-c", f"{name}={value}"]
    # A server refuses to start while the process in postmaster.pid exists. pg_ctl sets this variable to exempt one
    # process, because ids are reused after a reboot. Here that process is known not to be a server. PostgreSQL still
    # checks that no child of the old server uses its shared memory.
    stale = read_record(cluster)
    extra = {"PG_GRANDPARENT_PID": str(stale.pid)} if stale else {}
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(f"{log}.1")
    with open_file(log, os.O_WRONLY | os.O_APPEND) as output:
        return spawn(programs, words, output=output, extra=extra)


def _has_orphans(cluster: Path) -> bool:
    # Children of a killed server end when they notice its end. Until then a new server would refuse to start.
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").samefile(cluster) and (process / "exe").readlink().name == "postgres":
                return True
    return False


def _wait(deadline: float, problem: str, log: Path) -> None:
    if time.monotonic() > deadline:
        raise EmbeddedPostgresError(f"{problem}, and OO_ML_POSTGRES_START_TIMEOUT is over. {_end_of(log)}")
    pause()


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join((f"The end of {log}:", *lines[-_LOG_LINES_SHOWN:]))
