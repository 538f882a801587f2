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
    """PostgreSQL's programs, as the service finds them."""
    return binaries.find(None)


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory open to every account, as pytest's own are not."""
    with _open_directory() as directory:
        yield directory


@pytest.fixture
def new_dir(base: Path) -> Path:
    """A data directory that does not exist yet. The first start is slow: most tests are about another."""
    return base / "data"


@pytest.fixture
def data_dir(shared_dir: Path) -> Iterator[Path]:
    """A data directory that has been used before, by other tests too, and whose server is not running."""
    yield shared_dir
    _stop(shared_dir)


@pytest.fixture
def own_dir(shared_dir: Path, new_dir: Path) -> Path:
    """A data directory that has been used before and may be spoilt."""
    new_dir.mkdir()
    shutil.copytree(shared_dir / "postgres", new_dir / "postgres")
    return new_dir


@pytest.fixture(scope="session")
def shared_dir() -> Iterator[Path]:
    """What `data_dir` is, and `own_dir` is copied from."""
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
    # No server outlives a test, however it went.
    if left := pid(directory):
        os.kill(left, signal.SIGQUIT)
        until(lambda: pid(directory) is None)


@pytest.fixture
def use(bin_dir: Path) -> Iterator[Callable[..., User]]:
    """Start a process that uses the server; it is killed at the end if it has not left."""
    with ExitStack() as users:

        def start(data_dir: Path, python: str = sys.executable, uid: int | None = None) -> User:
            user = User(data_dir, bin_dir, python, uid)
            users.callback(user.kill)
            return user

        yield start
