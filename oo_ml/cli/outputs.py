"""Outputs of commands that write a file, or to standard output."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from oo_ml.errors import ExportFileError


@contextmanager
def open_output(output: Path | None) -> Iterator[IO[bytes]]:
    """Yield a file that replaces `output` as a whole when the block ends, or standard output.

    If the block raises, `output` is unchanged. Only the owner can read the file. A device or a named pipe is written
    to; a link stays, and the file that it leads to is replaced.

    Raises:
        ExportFileError: the file can't be written.
    """
    try:
        if output is None:
            yield sys.stdout.buffer
            sys.stdout.flush()
        else:
            target = output.resolve()
            opened = target.open("wb") if target.exists() and not target.is_file() else _replacing(target)
            with opened as file:
                yield file
    except BrokenPipeError:
        # The reader of the pipe has closed it; click ends the command.
        raise
    except OSError as error:
        raise ExportFileError(f"Cannot write {output or 'standard output'}: {error.strerror}") from None


@contextmanager
def _replacing(output: Path) -> Iterator[IO[bytes]]:
    with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False) as file:
        beside = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            beside.replace(output)
        finally:
            beside.unlink(missing_ok=True)
