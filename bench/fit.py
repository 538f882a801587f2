"""`python -m bench.fit` measures what a fit of the prior of pooled-v1 takes with a million users, and prints a table.

The users are copies of a thousand simulated ones, stored by one statement. Five minutes, most of them for that.
"""

import resource
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from bench import database
from bench.database import Database
from oo_ml.execution import retry
from oo_ml.services.policies import fit
from oo_ml.settings import Settings
from oo_ml.storage.policy_priors import PriorRow
from oo_ml.storage.postgres import engine

_POLICY: Final = "pooled-v1"
_DIMENSION: Final = 12
_PATTERNS: Final = 1000
_REWARDS: Final = 15
_MEBIBYTE: Final = 1024
_PATTERN: Final = "INSERT INTO pattern VALUES (%s, %s, %s, %s, %s)"
_STATES: Final = """
    INSERT INTO oo_ml.policy_state (
        user_id, policy, epoch, version, pulls, explore_count, reward_count, cumulative_reward, last_updated, a, b,
        weight, squares
    )
    SELECT CAST(10000000 + i AS text), %s, 0, %s, %s, 0, %s, 0, now(), p.a, p.b, p.weight, p.squares
    FROM generate_series(0, %s - 1) AS i JOIN pattern AS p ON p.number = i %% %s
"""


def main(users: Annotated[int, typer.Option(min=_PATTERNS, help="Users with evidence")] = 1_000_000) -> None:
    """Print seconds for the question what is due, for reading a sample, for the first fit and for the next one."""
    settings = Settings()
    with ExitStack() as until_done:
        directory = Path(until_done.enter_context(tempfile.TemporaryDirectory(prefix="oo-ml-bench-")))
        small, _ = until_done.enter_context(database.running(directory))
        _seed(small, users)
        source = engine.create(small.url, settings, threads=1, long=True)
        until_done.callback(source.dispose)

        def run(service: Any, command: object) -> tuple[float, Any]:  # noqa: ANN401 - any service
            began = time.perf_counter()
            [outcome] = retry.run(source, service, [command], time.monotonic() + settings.long_timeout)
            return time.perf_counter() - began, outcome

        now, before = datetime.now(UTC), _peak()
        due, _ = run(fit.find_due, now)
        times = []
        for _ in range(2):
            read, material = run(fit.read_material, fit.ReadCommand(_POLICY, now))
            assert isinstance(material, fit.Material), material
            assert material.sample is not None
            # Its time on a processor, whatever else the machine does.
            began = time.process_time()
            prior = fit.compute_next(material, _POLICY, now)
            took = time.process_time() - began
            assert prior is not None, material
            sampled = len(material.sample.weight)
            run(fit.insert, PriorRow(_POLICY, prior, now, sampled, material.rewards, material.erasures))
            times.append((read, took))
    (first_read, first_fit), (next_read, next_fit) = times
    typer.echo("| users | drawn | due?, s | read, s | fit, CPU s | read again, s | next fit, CPU s | memory, MiB |")
    typer.echo("| ---: " * 8 + "|")
    seconds = f"{due:.2f} | {first_read:.1f} | {first_fit:.1f} | {next_read:.1f} | {next_fit:.1f}"
    typer.echo(f"| {users:,} | {sampled:,} | {seconds} | {_peak() - before:,} |")


def _seed(small: Database, users: int) -> None:
    """Store users with evidence, and their number of rewards, as upkeep would have counted it."""
    rng = np.random.default_rng(1)
    mean = rng.normal(0, 0.3, _DIMENSION)
    with small.connect() as connection:
        connection.execute(
            "CREATE TEMPORARY TABLE pattern (number integer, a float8[], b float8[], weight float8, squares float8)"
        )
        with connection.cursor() as cursor:
            for number in range(_PATTERNS):
                X = rng.normal(0, 0.5, (_REWARDS, _DIMENSION))
                r = X @ (mean + rng.normal(0, 0.2, _DIMENSION)) + rng.normal(0, 0.5, _REWARDS)
                row = (number, (X.T @ X).tolist(), (X.T @ r).tolist(), float(_REWARDS), float(r @ r))
                cursor.execute(_PATTERN, row)
        connection.execute(_STATES, [_POLICY, _REWARDS, _REWARDS, _REWARDS, users, _PATTERNS])
        connection.execute("INSERT INTO oo_ml.daily_rewards SELECT current_date, %s, %s", [_POLICY, users * _REWARDS])
    with small.connect_as_superuser() as connection:
        connection.execute("VACUUM (ANALYZE) oo_ml.policy_state")
        connection.execute("CHECKPOINT")


def _peak() -> int:
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _MEBIBYTE


if __name__ == "__main__":
    typer.run(main)
