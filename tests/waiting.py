"""Waiting for a condition, instead of sleeping for a time."""

import time
from collections.abc import Callable

PATIENCE = 60.0


def until(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
