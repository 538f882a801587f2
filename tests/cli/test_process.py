"""Settings of a process of `oo-ml` that come before its imports: threads."""

import subprocess
import sys

from tests.commands import environment

_COUNT_THREADS = """
import os
from oo_ml.cli.process import prepare_process
prepare_process()
import numpy
print(len(os.listdir("/proc/self/task")))
"""


def test_threads() -> None:
    """Linear algebra starts no threads."""
    command = [sys.executable, "-c", _COUNT_THREADS]
    done = subprocess.run(command, env=environment(), cwd="/", capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "1\n"
