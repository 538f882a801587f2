"""`oo-ml` with only the settings that the test gives: in the test's process, or in a process of its own.

A process takes up to two seconds of CPU to start. It is for tests of signals, pipes, and commands side by side.
"""

import io
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from oo_ml.cli.main import run_command
from tests.waiting import PATIENCE, until

# A test must not fail because the machine is busy, and it can observe sessions that wait for a row lock.
PATIENT = {
    "OO_ML_REQUEST_TIMEOUT": 20,
    "OO_ML_STATEMENT_TIMEOUT": 20,
    "OO_ML_LOCK_TIMEOUT": 20,
    "OO_ML_LANE_LOCK_TIMEOUT": 20,
}
_ADDRESS = re.compile(r'Listening on ([^\s"]+)')


@dataclass(frozen=True, slots=True)
class Done:
    """The output and the exit code of a command."""

    code: int
    out: str
    err: str


def oo_ml(*words: str, stdin: str = "", **variables: object) -> Done:
    """Run `oo-ml` in this process, with nothing set but `variables`.

    An exception that `run_command` does not handle is raised. `oo-ml serve` may run here only if its settings are
    invalid, because it installs signal handlers.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("/")
        patch.setattr(sys, "argv", ["oo-ml", *words])
        return run(run_command, stdin, **variables)


def run(program: Callable[[], object], stdin: str = "", /, **variables: object) -> Done:
    """Run the main function of a command in this process, with nothing set but `variables`."""
    out, err = _Stream(), _Stream()
    code: object = 0
    with _put_back(), pytest.MonkeyPatch.context() as patch:
        given = environment(**variables)
        for name in os.environ.keys() - given.keys():
            patch.delenv(name)
        for name, value in given.items():
            patch.setenv(name, value)
        time.tzset()
        for name, stream in (("stdin", _Stream(stdin)), ("stdout", out), ("stderr", err)):
            patch.setattr(sys, name, stream)
        try:
            program()
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return Done(code, out.text(), err.text())


def oo_ml_process(*words: str, stdin: str = "", **variables: object) -> Done:
    """Run `oo-ml` in a process of its own, to its end, with nothing set but `variables`."""
    process = start(*words, **variables)
    try:
        out, err = process.communicate(stdin, PATIENCE)
    finally:
        process.kill()
    return Done(process.returncode, out, err)


class _Stream(io.TextIOWrapper):
    """A standard stream, with a buffer for bytes, as Python opens it for a process without a locale."""

    def __init__(self, content: str = "") -> None:
        """Open a stream that starts with `content`."""
        super().__init__(io.BytesIO(content.encode()), "utf-8", "surrogateescape", write_through=True)

    def text(self) -> str:
        """Return the whole content."""
        self.seek(0)
        return self.read()


@contextmanager
def _put_back() -> Iterator[None]:
    """Put back the time zone and the logging of pytest, whose handlers `configure_logging` would close."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, list(logging.Logger.manager.loggerDict))]
    levels = [logger.level for logger in loggers]
    handlers, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        time.tzset()


def start(*words: str, **variables: object) -> subprocess.Popen[str]:
    """Start `oo-ml`, to be waited for with communicate()."""
    return subprocess.Popen(  # noqa: S603 - our own program
        command_line(*words),
        env=environment(**variables),
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environment(**variables: object) -> dict[str, str]:
    """Return an environment without a home and without settings; None leaves a variable out."""
    given = {"HOME": "/nonexistent", "COLUMNS": "200"} | variables
    return {"PATH": os.environ["PATH"]} | {name: str(value) for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Served:
    """A service that was started from the command line."""

    process: subprocess.Popen[bytes]
    log: Path
    client: httpx.Client

    def stop(self, number: signal.Signals) -> int:
        """Send a signal, wait for the end and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def run_serve(log: Path, command: Sequence[str] | None = None, /, **variables: object) -> Iterator[Served]:
    """Run `oo-ml serve`, or a command that does, on a free port; killed at the end if it still runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command or command_line("serve", "--port", "0"),
            env=environment(**PATIENT | variables),
            cwd="/",
            stdout=output,
            stderr=output,
        )
    try:
        with httpx.Client(base_url=_address(process, log), timeout=PATIENCE, trust_env=False) as client:
            yield Served(process, log, client)
    finally:
        process.kill()
        process.wait(PATIENCE)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    until(lambda: _ADDRESS.search(log.read_text("utf-8")) is not None or process.poll() is not None)
    found = _ADDRESS.search(log.read_text("utf-8"))
    assert found is not None, log.read_text("utf-8")
    return found[1]


def processes_in(directory: Path) -> set[int]:
    """Return the processes that work in `directory` or were started for it."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            about = [os.fsencode((process / "cwd").readlink()), *(process / "cmdline").read_bytes().split(b"\0")]
            if any(word.startswith(os.fsencode(directory)) for word in about):
                found.add(int(process.name))
    return found


def command_line(*words: str) -> list[str]:
    """Return the words of a process that runs `oo-ml` with `words`."""
    return [sys.executable, "-m", "oo_ml", *words]
