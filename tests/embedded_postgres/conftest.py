"""A directory that other accounts can reach, and processes that use the server in it."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from oo_ml.embedded_postgres import binaries, running
from tests.embedded_postgres.processes import TIMEOUT, User, pid
from tests.run_directory import run_directory
from tests.waiting import until


@pytest.fixture(scope="session")
def bin_dir() -> Path:
    """Return the directory of PostgreSQL's programs that the service would use."""
    return binaries.find(None)


@pytest.fixture
def base() -> Iterator[Path]:
    """Create a directory that every account can enter, unlike those of pytest."""
    with _open_directory() as directory:
        yield directory


@pytest.fixture
def new_dir(base: Path) -> Path:
    """Return the path of a data directory that does not exist yet. The first start in it is slow."""
    return base / "data"


@pytest.fixture
def data_dir(shared_dir: Path) -> Iterator[Path]:
    """Return a data directory that other tests have used before; its server is not running."""
    yield shared_dir
    _stop(shared_dir)


@pytest.fixture
def own_dir(shared_dir: Path, new_dir: Path) -> Path:
    """Copy a used data directory, so that the test may damage it."""
    new_dir.mkdir()
    shutil.copytree(shared_dir / "postgres", new_dir / "postgres")
    return new_dir


@pytest.fixture(scope="session")
def shared_dir() -> Iterator[Path]:
    """Create the data directory that `data_dir` returns and `own_dir` copies."""
    with _open_directory() as directory:
        with running(directory, bin_dir=None, start_timeout=TIMEOUT, fsync=False):
            pass
        yield directory


@contextmanager
def _open_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="oo-ml-test-", dir=run_directory()))
    directory.chmod(0o755)
    yield directory
    for lock in directory.rglob("start.lock"):
        _stop(lock.parent)
    shutil.rmtree(directory)


def _stop(directory: Path) -> None:
    # No server outlives a test, even a failed one.
    if left := pid(directory):
        os.kill(left, signal.SIGQUIT)
        until(lambda: pid(directory) is None)


@pytest.fixture
def use(bin_dir: Path) -> Iterator[Callable[..., User]]:
    """Return a function that starts a process that uses the server. The fixture kills what is left at the end."""
    with ExitStack() as users:

        def start(data_dir: Path, python: str = sys.executable, uid: int | None = None) -> User:
            user = User(data_dir, bin_dir, python, uid)
            users.callback(user.kill)
            return user

        yield start
