"""`make demo`, for a week of one user."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.commands import run_serve
from tests.slow.environments import install_offline_model

pytestmark = pytest.mark.slow


@pytest.fixture
def command(announce: Callable[[str], None], tmp_path: Path) -> list[str]:
    """A short demo, with its data in this test's directory."""
    install_offline_model(announce)
    short = ["--weeks", "1", "--users", "1", "--data-dir", str(tmp_path)]
    return [sys.executable, "-m", "demo", *short]


def test_week(command: list[str], tmp_path: Path) -> None:
    """The demo ends with its tables and the page's address; a second run replaces the same week."""
    for _ in range(2):
        demo = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        assert (demo.returncode, demo.stderr) == (0, ""), demo.stdout
        for heading in ("Learned weights", "Mean reward of a tip shown", "Reactions to each prompt version"):
            assert heading in demo.stdout
        assert "Verified: " in demo.stdout
        assert "Another policy, news-v1, chose among 20 articles" in demo.stdout
        assert f"OO_ML_DATA_DIR={tmp_path} " in demo.stdout
        assert "http://127.0.0.1:8000/dashboard\n" in demo.stdout
        assert is_stopped(tmp_path)
    with run_serve(tmp_path / "service.log", OO_ML_DATA_DIR=tmp_path) as service:
        assert service.client.get("/dashboard").status_code == 200
        known = service.client.get("/analytics/filters").json()
        lived = date.fromisoformat(known["last_day"]) - date.fromisoformat(known["first_day"])
        # Before seven in the morning today has no decision yet.
        assert timedelta(days=5) <= lived <= timedelta(days=6)
        rates = service.client.get("/analytics/reaction-rates", params={"by": "policy"}).json()["items"]
        shown = sum(row["shown"] for row in rates if row["policy"] in {"linucb-v1", "egreedy-v1"})
        # Eight readers of news, 45 days each.
        assert sum(row["shown"] for row in rates if row["policy"] == "news-v1") == 8 * 45
        assert shown == len(service.client.get("/users/demo-ada/decisions").json()["items"]) >= 6 * 8
        assert service.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interruption(command: list[str], tmp_path: Path, number: signal.Signals, status: int) -> None:
    """Ctrl-C and kill stop the model and the PostgreSQL."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as demo:  # noqa: S603
        assert demo.stdout is not None
        next(line for line in demo.stdout if line.startswith("Writing tips"))
        demo.send_signal(number)
        demo.stdout.read()
        assert demo.wait() == status
    assert is_stopped(tmp_path)


def is_stopped(data_dir: Path) -> bool:
    """Tell whether what the demo started was there, and the database, the last of it to go, is gone."""
    was_there = (data_dir / "offline-model.log").exists() and (data_dir / "postgres").exists()
    return was_there and not (data_dir / "postgres/postmaster.pid").exists()
