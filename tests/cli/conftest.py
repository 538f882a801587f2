"""A home for the private PostgreSQL."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.commands import processes_in
from tests.run_directory import run_directory
from tests.waiting import until


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home with a path short enough for a socket; no server in it outlives the test."""
    directory = Path(tempfile.mkdtemp(prefix="oo-ml-home-", dir=run_directory()))
    yield directory
    for process in processes_in(directory):
        with suppress(ProcessLookupError):  # its parent was faster
            os.kill(process, signal.SIGQUIT)
    until(lambda: not processes_in(directory))
    shutil.rmtree(directory)
