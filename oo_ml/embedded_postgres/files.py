"""Directories, files and locks in the data directory, shared by the processes that use one server.

Locks are flock's: the kernel lets go of them when a process ends, however it ends, so none is ever stale.
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
    """Make `path` and its parents where they are missing.

    Made by root, a directory belongs to whoever owns the one above it, so that `sudo` in a home leaves nothing of
    root's behind. 711, for the account that runs the server may be another; what is inside is closed to others.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    with suppress(FileExistsError):  # another process was faster
        path.mkdir()
        path.chmod(0o711)
        _inherit_owner(path)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """A file of mode 600 in the data directory; as root, it is left to the directory's owner."""
    file = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _inherit_owner(path)
        yield file
    finally:
        os.close(file)


@contextmanager
def locked(path: Path, deadline: float) -> Iterator[int]:
    """The exclusive lock on `path`, waited for until `deadline` (of time.monotonic)."""
    with opened(path, os.O_RDWR) as file:
        while not try_lock(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"Another process is starting or stopping the PostgreSQL in {path.parent} and does not get done: "
                    f"it holds {path.name} (OO_ML_POSTGRES_START_TIMEOUT bounds the wait)"
                )
            pause()
        yield file


def try_lock(file: int, how: int) -> bool:
    """Take the lock `how` (LOCK_SH or LOCK_EX) if it is free."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def pause() -> None:
    """The step of every wait here: neither flock nor a server's start can be waited for with a timeout."""
    time.sleep(_PAUSE)


def _inherit_owner(path: Path) -> None:
    if os.geteuid() == 0:
        above = path.parent.stat()
        os.chown(path, above.st_uid, above.st_gid, follow_symlinks=False)
