"""The server's first process: is it there, does it answer, start it, stop it.

PostgreSQL's own postmaster.pid says where it is. `pg_ctl` isn't used, for it believes that file where the number in it
has gone to another process, or to a zombie: both are common in containers after a kill -9.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from oo_ml.embedded_postgres.binaries import call
from oo_ml.embedded_postgres.files import opened, pause
from oo_ml.embedded_postgres.programs import Programs, spawn
from oo_ml.errors import EmbeddedPostgresError

PORT = 5432  # only the name of the socket's file: nothing listens on TCP

_LOG_BYTES = 8 * 2**20
_LOG_LINES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Record:
    """What postmaster.pid tells; it stays behind after a crash."""

    pid: int
    data_dir: str
    socket_dir: str | None


def record(cluster: Path) -> Record | None:
    """What the last server of `cluster` wrote when it started; none after an orderly end."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    # It is written step by step while a server starts; the fifth line is the socket's directory.
    match lines:
        case [pid, data_dir, _, _, socket_dir, *_] if pid.isdigit():
            return Record(int(pid), data_dir, socket_dir)
        case [pid, data_dir, *_] if pid.isdigit():
            return Record(int(pid), data_dir, None)
    return None


def is_alive(cluster: Path) -> bool:
    """Whether the process that postmaster.pid names runs on `cluster`."""
    found = record(cluster)
    if found is None:
        return False
    try:
        if Path("/proc/self/cwd").exists():
            # A server lives in its data. A zombie and whoever got the number afterwards do not.
            return Path(f"/proc/{found.pid}/cwd").samefile(cluster)
        os.kill(found.pid, 0)
    except OSError:
        return False
    return True


def answers(socket_dir: Path, bin_dir: Path) -> bool:
    """Whether a server takes connections in `socket_dir`."""
    address = [f"--host={socket_dir}", f"--port={PORT}", "--username=postgres", "--dbname=postgres"]
    return call([f"{bin_dir}/pg_isready", "--timeout=2", *address]).returncode == 0


def start(cluster: Path, socket_dir: Path, programs: Programs, *, fsync: bool, deadline: float) -> None:
    """Wait until a server of `cluster` answers, starting one unless an orphan is on its way up."""
    log = cluster.with_name(f"{cluster.name}.log")
    while not is_alive(cluster) and _has_orphans(cluster):
        _wait(deadline, "An earlier server was killed, and processes of it are still at work", log)
    child = None if is_alive(cluster) else _spawn(cluster, socket_dir, programs, log, fsync=fsync)
    try:
        while not answers(socket_dir, programs.bin_dir):
            if not is_alive(cluster) and (child is None or child.poll() is not None):
                raise EmbeddedPostgresError(f"PostgreSQL did not start. {_end_of(log)}{programs.account.hint}")
            _wait(deadline, "PostgreSQL does not answer", log)
    finally:
        if child is not None and child.poll() is None:
            child.returncode = 0  # no longer ours to wait for: whoever leaves last stops it


def stop(cluster: Path, timeout: float) -> bool:
    """Stop the server of `cluster` if there is one; whether it is gone within `timeout` seconds, twice at most."""
    # Fast: open transactions are rolled back. Immediate: as after a crash, the next start recovers.
    for how in (signal.SIGINT, signal.SIGQUIT):
        found = record(cluster)
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
        # Room for a dozen services of a dozen connections each; initdb settles for less on a small machine.
        "max_connections": 200,
        # Text that shows a time shows the same everywhere.
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    words = ["postgres", "-D", f"{cluster}"]
    for name, value in settings.items():
        words += ["-c", f"{name}={value}"]
    # A server refuses to start while the process named in postmaster.pid exists, unless that is itself or, by this
    # variable, whoever called it: pg_ctl's answer to numbers that come back after a reboot. Here that process is known
    # not to be a server. Whether children of the old one still use its memory is checked all the same.
    stale = record(cluster)
    extra = {"PG_GRANDPARENT_PID": str(stale.pid)} if stale else {}
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(f"{log}.1")
    with opened(log, os.O_WRONLY | os.O_APPEND) as output:
        return spawn(programs, words, output=output, extra=extra)


def _has_orphans(cluster: Path) -> bool:
    # Children of a server that was killed end when they notice, and until then a new one would refuse to start.
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").samefile(cluster) and (process / "exe").readlink().name == "postgres":
                return True
    return False


def _wait(deadline: float, what: str, log: Path) -> None:
    if time.monotonic() > deadline:
        raise EmbeddedPostgresError(f"{what}, and OO_ML_POSTGRES_START_TIMEOUT is over. {_end_of(log)}")
    pause()


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join((f"The end of {log}:", *lines[-_LOG_LINES_SHOWN:]))
