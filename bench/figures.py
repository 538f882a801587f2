"""The figures of one measurement."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """Throughput and latency of a run.

    Attributes:
        rate: decisions, rewards or transactions a second.
        p50, p99, p999: milliseconds a call or transaction; see load.py and pgbench.py for how each counts.
    """

    rate: float
    p50: float
    p99: float
    p999: float
