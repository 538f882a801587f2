"""The service as users run it: `oo-ml serve`, a process of its own."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import Queue

import httpx

PATIENCE = 60.0
_RUNNING = re.compile(r"Uvicorn running on (http://\S+)")


# A busy machine must not make a test fail.
_PATIENT = {"OO_ML_REQUEST_TIMEOUT": "20", "OO_ML_STATEMENT_TIMEOUT": "20", "OO_ML_LOCK_TIMEOUT": "20"}


@contextmanager
def serve_in_process(database_url: str, **environment: str) -> Iterator[httpx.Client]:
    """Run `oo-ml serve` on a free port and yield a client of it; the process is gone when the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "oo_ml", "serve", "--port", "0"],
        env={**os.environ, "OO_ML_DATABASE_URL": database_url, **_PATIENT, **environment},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        addresses: Queue[str] = Queue()
        reader = threading.Thread(target=_read, args=(process.stderr, addresses))
        reader.start()
        try:
            address = addresses.get(timeout=PATIENCE)
            with httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client:
                yield client
        finally:
            process.terminate()
            reader.join()


def _read(log: Iterable[str], addresses: Queue[str]) -> None:
    """Pass on where the process listens, and read what it logs to the end, lest it wait for a reader."""
    for line in log:
        if match := _RUNNING.search(line):
            addresses.put(match[1])
