"""Directories, files and locks in the data directory, shared by the processes that use one server.

Locks are taken with flock: the kernel releases them when a process ends in any way, so no lock is ever stale.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from oo_ml.errors import EmbeddedPostgresError

_PAUSE = 0.02


def make_directory(path: Path) -> None:
    """Create `path` and its parents if they are missing.

    If root creates a directory, the owner of the parent directory becomes its owner, so `sudo` in a home directory
    leaves no files of root. The mode is 711, because the server may run as another account; the contents are closed.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    with suppress(FileExistsError):  # another process was faster
        path.mkdir()
        path.chmod(0o711)
        _inherit_owner(path)


@contextmanager
def open_file(path: Path, flags: int) -> Iterator[int]:
    """Open a file of mode 600 in the data directory; if root creates it, the directory's owner becomes its owner."""
    file = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _inherit_owner(path)
        yield file
    finally:
        os.close(file)


@contextmanager
def hold_lock(path: Path, deadline: float) -> Iterator[int]:
    """Hold the exclusive lock on `path`; wait for it until `deadline` (of time.monotonic)."""
    with open_file(path, os.O_RDWR) as file:
        while not try_lock(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"Another process is starting or stopping the PostgreSQL in {path.parent} and does not finish: "
                    f"it holds {path.name} (OO_ML_POSTGRES_START_TIMEOUT limits the wait)"
                )
            pause()
        yield file


def try_lock(file: int, how: int) -> bool:
    """Take the lock `how` (LOCK_SH or LOCK_EX) if it is free; return whether it was."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def pause() -> None:
    """Sleep for one step of a polling loop: flock and the start of a server have no wait with a timeout."""
    time.sleep(_PAUSE)


def _inherit_owner(path: Path) -> None:
    if os.geteuid() == 0:
        above = path.parent.stat()
        os.chown(path, above.st_uid, above.st_gid, follow_symlinks=False)
