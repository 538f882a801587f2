"""Metrics of `oo-ml serve` with several processes: any of them tells the numbers of all."""

import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from oo_ml.cli import serve
from oo_ml.errors import ConfigurationError
from tests import calls
from tests.cli.test_serve import workers
from tests.commands import Served, run_serve
from tests.scraping import Scraped, scrape
from tests.waiting import until

PROCESSES = 2
DECISIONS = "oo_ml_decisions_total"


def count_started(service: Served) -> int:
    """Return the number of processes that have begun to serve."""
    return service.log.read_text("utf-8").count("Application startup complete")


def scrape_anew(service: Served) -> Scraped:
    """Scrape by a connection of its own, so that any process may answer."""
    with httpx.Client(base_url=service.client.base_url, trust_env=False, timeout=60) as client:
        return scrape(client)


def decide(service: Served, times: int) -> None:
    """Make decisions by connections of their own."""
    for _ in range(times):
        assert httpx.post(f"{service.client.base_url}/score", json=calls.score(), timeout=60).status_code == 200


def holds(service: Served, condition: Callable[[Scraped], bool]) -> bool:
    """Tell whether a condition holds for several scrapes in a row: more than one process may answer."""
    return all(condition(scrape_anew(service)) for _ in range(6))


@pytest.mark.slow
def test_several_processes(service_url: str, tmp_path: Path) -> None:
    """Counters add up, those of a dead process too; gauges are those of living processes; the directory is private."""
    variables = {"OO_ML_DATABASE_URL": service_url, "OO_ML_PROCESSES": PROCESSES, "TMPDIR": tmp_path}
    # The gauges of a process are written at its start and every hour, and whenever it is scraped.
    with run_serve(tmp_path / "log", **variables, OO_ML_METRICS_MAX_AGE=3600) as service:
        until(lambda: count_started(service) == PROCESSES)
        [directory] = tmp_path.glob("oo-ml-metrics-*")
        assert directory.stat().st_mode & 0o777 == 0o700
        decide(service, 10)
        until(lambda: holds(service, lambda found: found.sum(DECISIONS) == 10))
        assert scrape_anew(service).value("oo_ml_pool_limit", pool="lanes") == 2 * PROCESSES
        [killed, _] = workers(service.process.pid)
        os.kill(killed, signal.SIGKILL)
        until(lambda: count_started(service) == PROCESSES + 1)
        until(lambda: not list(directory.glob(f"gauge_*_{killed}.db")))
        decide(service, 5)
        until(lambda: holds(service, lambda found: found.sum(DECISIONS) == 15))
        found = scrape_anew(service)
        assert found.value("oo_ml_pool_limit", pool="lanes") == 2 * PROCESSES
        assert found.value("oo_ml_database_up") == 1
        assert found.value("oo_ml_partitions_ahead_months") == 3
        assert service.stop(signal.SIGTERM) == 0
    assert not directory.exists()


def test_one_process(home: Path, tmp_path: Path) -> None:
    """A single process needs no directory, and does not use one that its environment names.

    It imports the application while its private PostgreSQL starts.
    """
    shared = tmp_path / "shared"
    shared.mkdir()
    variables = {"OO_ML_DATA_DIR": home, "TMPDIR": tmp_path, "PROMETHEUS_MULTIPROC_DIR": shared}
    with run_serve(tmp_path / "log", **variables) as service:
        decide(service, 1)
        assert scrape_anew(service).sum(DECISIONS) == 1
        assert {path.name for path in tmp_path.iterdir()} == {"log", "shared"}
        assert list(shared.iterdir()) == []
        assert service.stop(signal.SIGTERM) == 0


def test_no_directory_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes without a place for their directory are an error that says what to set."""
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    with ExitStack() as stack, pytest.raises(ConfigurationError, match="set TMPDIR"):
        serve.share_metrics(stack, 2)
