"""Sizes of a run: the full one, for docs/performance.md, or a small one to try that the benchmarks work."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the tables and lengths of the measurements.

    Attributes:
        seconds: of load, a measurement.
        rounds: the number of times that a measurement with a target is made.
        every: the rest is measured in the first round and each so many rounds later.
        users: of the small database; as many again are pgbench's.
        open_decisions: of each of those users, to be rewarded.
        reference_open_decisions: of each of pgbench's.
        large_users: of the large database, with ten decisions each.
        memory_from, memory_to: decisions after which the service's memory is looked at.
        starts: of the service, to see how long it takes.
        disk_bytes: the free space needed.
        verified: the number of users that are verified at the end, in each database.
        uncounted: decisions that upkeep has not counted yet when the dashboard's questions are asked again.
        asked: how often each of them is asked.
    """

    seconds: int
    rounds: int
    every: int
    users: int
    open_decisions: int
    reference_open_decisions: int
    large_users: int
    memory_from: int
    memory_to: int
    starts: int
    disk_bytes: int
    verified: int
    uncounted: int
    asked: int


FULL: Final = Plan(
    seconds=5,
    rounds=5,
    every=4,
    users=10_000,
    open_decisions=150,
    reference_open_decisions=20,
    large_users=1_000_000,
    memory_from=10_000,
    memory_to=1_000_000,
    starts=5,
    disk_bytes=30_000_000_000,
    verified=20,
    uncounted=20_000,
    asked=11,
)
QUICK: Final = Plan(
    seconds=2,
    rounds=1,
    every=1,
    users=1_000,
    open_decisions=100,
    reference_open_decisions=20,
    large_users=2_000,
    memory_from=1_000,
    memory_to=5_000,
    starts=2,
    disk_bytes=2_000_000_000,
    verified=5,
    uncounted=500,
    asked=3,
)
