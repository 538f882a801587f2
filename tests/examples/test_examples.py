"""The examples run against a service, and their policies learn."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.commands import environment, oo_ml
from tests.serving import Service
from tests.waiting import until

EXAMPLES: Final = Path(__file__).parents[2] / "examples"


def simulate(example: str, service: Service, *options: str) -> list[tuple[float, float]]:
    """Run the script of an example; return the numbers of each third of the days, and those of drawing at random."""
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(EXAMPLES / example / "simulate.py"), service.url, *options],
        env=environment(),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    numbers = [re.findall(r"[+-]?\d+(?:\.\d+)?", line) for line in done.stdout.splitlines()]
    assert len(numbers) == 3
    return [(float(chosen), float(at_random)) for chosen, at_random in numbers]


@pytest.mark.parametrize("example", ["news", "notifications", "todo"])
def test_definitions(example: str) -> None:
    """The definition of each example passes the check."""
    assert oo_ml("policies", "check", str(EXAMPLES / example / "definition.json")).code == 0


@pytest.mark.slow
def test_news(service: Service) -> None:
    """Readers open more of what the policy chooses than of articles drawn at random: in the end, much more."""
    # With so many readers the differences are more than ten standard deviations of the draws above the bounds.
    first, _, last = simulate("news", service, "--readers", "60")
    assert last[0] > first[0]
    assert last[0] > 1.5 * last[1]


@pytest.mark.slow
def test_notifications(service: Service) -> None:
    """The policy comes to earn several times as much as candidates drawn at random."""
    first, _, last = simulate("notifications", service)
    assert last[0] > first[0]
    assert last[0] > 4 * last[1]
    features = {"sent": True, "hour_of_day": 12}
    body = {
        "user_id": "new",
        "candidates": [{"id": "none", "features": {"sent": False}}, {"id": "at-12", "features": features}],
    }
    assert service.client.post("/policies/notifications-v1/score", json=body).status_code == 200


@pytest.mark.slow
def test_todo(service: Service, database_url: str) -> None:
    """Users do more of what the policy chooses, and new users start better than the first ones, thanks to the prior."""
    first, _, last = simulate("todo", service)
    assert last[0] > first[0]
    assert last[0] > 1.2 * last[1]
    assert oo_ml("policies", "fit", "todo-v1", OO_ML_DATABASE_URL=database_url).code == 0
    path = "/policies/todo-v1/users/todo-1000"
    until(lambda: service.client.get(path).json()["prior_version"] > 0)
    new, _, _ = simulate("todo", service, "--first-user", "1000")
    assert new[0] > first[0]
