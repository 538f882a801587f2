"""The service as a user starts it: a process of its own that knows its database and nothing else."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import BenchError
from demo.processes import find_free_port

_HOST: Final = "127.0.0.1"
_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 30
_PAUSE: Final = 0.002


@dataclass(frozen=True, slots=True)
class Service:
    """A running service.

    Attributes:
        start_seconds: from its start to its first 200 on /readyz.
        token: the API key that its calls need; None: they need none.
    """

    process: subprocess.Popen[bytes]
    port: int
    start_seconds: float
    token: str | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{_HOST}:{self.port}"

    def memory(self) -> tuple[int, int]:
        """Return how much memory its processes have, in bytes, and how many they are."""
        sizes = [_resident_bytes(pid) for pid in _family(self.process.pid)]
        return sum(sizes), len([size for size in sizes if size])


@contextmanager
def running(database_url: str, log: Path, *, with_key: bool = False, without_door: bool = False) -> Iterator[Service]:
    """Run the service until the block ends. Settings come from this process's environment, but for the database.

    Args:
        database_url: its database.
        log: the file for its log.
        with_key: whether its calls need an API key.
        without_door: leave out what stands in front of the calls; see bench/without_door.py.
    """
    port = find_free_port()
    # Housekeeping, once a minute, would hit one measurement or another.
    environment = {"OO_ML_UPKEEP_INTERVAL": "0", **os.environ, "OO_ML_DATABASE_URL": database_url}
    program = str(Path(sys.executable).with_name("oo-ml"))
    token = None
    if with_key:
        environment["OO_ML_AUTH"] = "required"
        create = [program, "keys", "create", f"bench-{port}", "--scope", "decide"]
        created = subprocess.run(create, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
        token = created.stdout.strip()
    if without_door:
        # As `oo-ml` sets it before it imports numpy; this program imports it earlier.
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    served_by = [sys.executable, "-m", "bench.without_door"] if without_door else [program]
    command = [*served_by, "serve", "--host", _HOST, "--port", str(port)]
    with log.open("ab") as output:
        started = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - our own program
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_until_ready(process, port, log)
        yield Service(process, port, time.monotonic() - started, token)
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _is_ready(port):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").splitlines()[-10:]
            raise BenchError("\n".join(["The service did not get ready. The end of its log:", *lines]))
        time.sleep(_PAUSE)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(_HOST, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Its workers, too, if it has any and left them behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, in parentheses, may hold anything.
            parent = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(status.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def _resident_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0
