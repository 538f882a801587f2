"""The supervisor's view of a process that does not answer yet."""

import multiprocessing
import time
from collections.abc import Iterator

import pytest

from oo_ml.cli.servers import DrainingConfig, Worker


@pytest.fixture
def silent() -> Iterator[Worker]:
    """A worker whose process lives, and reads no question."""
    worker = Worker(DrainingConfig("no.application:here", drain=0), [])
    worker.process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(3600,))
    worker.process.start()
    yield worker
    worker.kill()
    worker.process.join()


def test_process_that_starts_slowly(silent: Worker) -> None:
    """A process that has never answered has ten times as long. However often it is asked, the supervisor goes on."""
    assert all(silent.is_alive(timeout=3600) for _ in range(1000))
    assert not silent.is_alive(timeout=0)


def test_process_that_has_answered(silent: Worker) -> None:
    """After its first answer a process has to answer each question in time."""
    assert silent.is_alive(timeout=3600)
    silent.child_conn.send(False)
    assert silent.is_alive(timeout=3600)
    assert not silent.is_alive(timeout=0)


def test_process_that_is_dead(silent: Worker) -> None:
    """A process that ended is dead, answer or not."""
    silent.process.kill()
    silent.process.join()
    assert not silent.is_alive(timeout=3600)
