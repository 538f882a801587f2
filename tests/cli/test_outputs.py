"""Files that commands write: whole or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from oo_ml.cli.outputs import open_output
from oo_ml.errors import ExportFileError, UnavailableError


def write(output: Path, *parts: bytes, error: Exception | None = None) -> None:
    """Write `parts` to `output`, and fail with `error` afterwards if there is one."""
    with open_output(output) as file:
        for part in parts:
            file.write(part)
        if error is not None:
            raise error


def test_whole_file(tmp_path: Path) -> None:
    """The file appears when the block ends, and nothing else is left beside it."""
    output = tmp_path / "log"
    with open_output(output) as file:
        file.write(b"one")
        file.flush()
        assert not output.exists()
    assert output.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("error", [UnavailableError(), OSError(28, "No space left on device")], ids=repr)
def test_failure(tmp_path: Path, error: Exception) -> None:
    """A block that fails leaves an older file unchanged, and no part of a new one."""
    output = tmp_path / "log"
    output.write_bytes(b"before")
    with pytest.raises((UnavailableError, ExportFileError)):
        write(output, b"one", error=error)
    assert output.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [output]


def test_link(tmp_path: Path) -> None:
    """A link stays a link: the file that it leads to is replaced."""
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"before")
    link.symlink_to(real)
    write(link, b"one", b"two")
    assert (link.readlink(), real.read_bytes()) == (real, b"onetwo")
    assert sorted(tmp_path.iterdir()) == [link, real]


def test_named_pipe(tmp_path: Path) -> None:
    """A named pipe is written to, and not replaced by a file; the same goes for devices such as /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_bytes)
        write(pipe, b"one", b"two")
        assert read.result() == b"onetwo"
    assert pipe.is_fifo()
