"""Limits of time in PostgreSQL's unit."""

import math


def milliseconds(seconds: float) -> int:
    """Return a limit in whole milliseconds; at least 1, because 0 means no limit to PostgreSQL."""
    return max(1, math.ceil(seconds * 1000))
