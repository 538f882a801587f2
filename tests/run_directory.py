"""The directory for the data of the tests' servers: in memory if there is room, because a disk creates files slowly.

Each run has one directory, which is removed when the run ends, or when the next run starts if the run was killed.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from oo_ml.embedded_postgres.files import try_lock

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - what is made there has a name of its own
# Four times what the suite uses. A container often has 64 MB.
_ROOM: Final = 2**30
_PREFIX: Final = "oo-ml-tests-"
# The variable by which the first process of a run tells the others.
_VARIABLE: Final = "TESTS_DIRECTORY"


def run_directory() -> Path:
    """Return this run's directory: open to every account, its name short enough for the address of a socket in it."""
    return Path(os.environ[_VARIABLE])


@contextmanager
def new_run_directory() -> Iterator[None]:
    """Make this run's directory, and remove it when the block ends."""
    place = _place()
    _sweep(place)
    made = Path(tempfile.mkdtemp(dir=place))
    made.chmod(0o711)
    with _opened(made) as lock:
        try_lock(lock, fcntl.LOCK_EX)  # never refused: only a directory of that prefix is looked at
        made = made.rename(place / f"{_PREFIX}{made.name.removeprefix('tmp')}")
        os.environ[_VARIABLE] = str(made)
        try:
            yield
        finally:
            del os.environ[_VARIABLE]
            shutil.rmtree(made)


def _place() -> Path:
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM:
        return _MEMORY
    return Path("/tmp")  # noqa: S108 - not TMPDIR, which can be long


def _sweep(place: Path) -> None:
    # A server that still runs there ends within a minute, because PostgreSQL checks that its postmaster.pid exists.
    for left in place.glob(f"{_PREFIX}*"):
        with suppress(OSError), _opened(left) as lock:  # it belongs to another account, or another run has removed it
            if try_lock(lock, fcntl.LOCK_EX):
                shutil.rmtree(left)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield file
    finally:
        os.close(file)
