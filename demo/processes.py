"""Child processes: started with their output in a file, awaited with a deadline, always stopped.

A child gets a process group of its own. So Ctrl-C reaches only the program that started it, and that program stops the
children in order.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from oo_ml.errors import OoMlError

# A child may finish what it is doing before it stops.
STOP_SECONDS = 30.0


class DemoError(OoMlError):
    """The demo cannot continue."""

    code = "demo"


def find_free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_loopback_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment and `extra`, with loopback calls kept away from any proxy."""
    return {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **extra}


@dataclass(frozen=True, slots=True)
class Child:
    """A program to run: its name in messages, and the URL that answers 200 once it is ready."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    ready: str
    log: Path


@contextmanager
def running(child: Child, deadline_seconds: float = 60.0) -> Iterator[None]:
    """Run `child` for the length of the block, which is entered once it is ready.

    Raises:
        DemoError: it ended or was not ready in time; the message holds the last lines of its log.
    """
    with (
        child.log.open("wb") as noise,
        subprocess.Popen(  # noqa: S603  (the commands are this package's own)
            child.command,
            stdin=subprocess.PIPE,
            stdout=noise,
            stderr=subprocess.STDOUT,
            env=child.environment,
            start_new_session=True,
        ) as process,
    ):
        try:
            _wait_until_ready(child, process, deadline_seconds)
            yield
        finally:
            _stop(process)


def _wait_until_ready(child: Child, process: subprocess.Popen[bytes], deadline_seconds: float) -> None:
    deadline = time.monotonic() + deadline_seconds
    with httpx.Client(trust_env=False, timeout=2.0) as http:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise DemoError(f"{child.name} ended with status {process.returncode}. {_last_lines(child.log)}")
            try:
                if http.get(child.ready).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise DemoError(f"{child.name} was not ready after {deadline_seconds:.0f} seconds. {_last_lines(child.log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Also when a second Ctrl-C cuts the wait short.
        process.kill()


def _last_lines(log: Path, count: int = 10) -> str:
    lines = log.read_text(errors="replace").splitlines()[-count:]
    return "\n".join([f"The end of {log}:", *lines])
