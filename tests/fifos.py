"""A named pipe that stops a process where it reads a file."""

import fcntl
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from tests.waiting import until


@contextmanager
def held_reader(fifo: Path, find: Callable[[], int]) -> Iterator[int]:
    """Give the next reader of `fifo` a byte and no end, so that it waits in the block for the rest; yield its process.

    Python runs a handler between two steps of its own, and a signal just before a system call that waits is handled
    after the call. So the block begins when the process sleeps in read(), which a signal interrupts.

    Args:
        fifo: a named pipe that nothing writes to.
        find: returns the process, when there is one that reads.
    """
    # Opened for both, a named pipe does not wait for its other end.
    with fifo.open("r+b", buffering=0) as end:
        end.write(b"x")
        until(lambda: _unread(end) == 0)
        process = find()
        until(lambda: _sleeps(process))
        yield process


def _unread(end: FileIO) -> int:
    """Return how many bytes of a pipe were not read yet."""
    (number,) = struct.unpack("i", fcntl.ioctl(end, termios.FIONREAD, bytes(4)))
    return int(number)


def _sleeps(process: int) -> bool:
    """Return whether the main thread of a process waits in a system call."""
    return Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "S"
