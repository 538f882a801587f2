"""Waiting for something to become true, instead of sleeping and hoping."""

import time
from collections.abc import Callable

PATIENCE = 60.0


def until(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
