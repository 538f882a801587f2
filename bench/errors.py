"""Why a benchmark, or one figure of it, could not be had."""


class BenchError(Exception):
    """It can't go on."""


class FailedRunError(BenchError):
    """A run with a failed answer: it gives no number."""
