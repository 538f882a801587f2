"""Reasons for which a benchmark, or one figure of it, has no result."""


class BenchError(Exception):
    """It can't go on."""


class FailedRunError(BenchError):
    """A run with a failed answer: it gives no number."""
