"""`python -m bench` measures the service beside pgbench on one server, and prints the figures as Markdown.

Everything that it starts and writes is gone at its end, also after Ctrl-C.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import httpx
import psycopg
import typer
from rich.console import Console

from bench import checks, database, load, machine, measures, memory, pages, patterns, report, seed, service
from bench.database import Database
from bench.errors import BenchError, FailedRunError
from bench.load import Target
from bench.measures import Stage
from bench.memory import Memory
from bench.pages import Pages
from bench.pgbench import Reference
from bench.plan import FULL, QUICK, Plan
from bench.report import Ran
from oo_ml.errors import OoMlError


def main(
    *,
    quick: Annotated[bool, typer.Option(help="A little of everything, to see that it works")] = False,
    output: Annotated[Path | None, typer.Option(help="Where to write the report, besides standard output")] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Where to make the databases, for as long as it takes; default: as $TMPDIR says")
    ] = None,
) -> None:
    """Measure the service beside pgbench: throughput, latency, memory, start. Twenty minutes and 30 GB of disk."""
    console = Console(stderr=True)
    plan = QUICK if quick else FULL
    try:
        load.version()
        with tempfile.TemporaryDirectory(prefix="oo-ml-bench-", dir=directory) as temporary:
            ran = _run(plan, Path(temporary), console)
    except (BenchError, OoMlError, httpx.TransportError, psycopg.Error, subprocess.TimeoutExpired) as error:
        console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    text = report.markdown(ran)
    typer.echo(text, nl=False)
    if output is not None:
        output.write_text(text)
    if ran.has_failed:
        raise typer.Exit(1)


def _run(plan: Plan, directory: Path, console: Console) -> Ran:
    now = datetime.now(UTC)
    if shutil.disk_usage(directory).free < plan.disk_bytes:
        raise BenchError(f"{directory.parent} has less than {plan.disk_bytes / 1e9:.0f} GB free: name a --directory")
    with database.running(directory / "data") as (small, large):
        about = machine.describe(small, directory, now)
        with service.running(small.url, directory / "small.log") as at_small:
            rows = patterns.ask(at_small, small)
            for_service, for_pgbench = seed.small(small, rows, plan, now, console)
            crowd = seed.large(large, rows, plan, now, console)
            here = Target(at_small, small, for_service, directory)
            with (
                service.running(large.url, directory / "large.log") as at_large,
                service.running(small.url, directory / "guarded.log", with_key=True) as at_guarded,
                service.running(small.url, directory / "bare.log", without_door=True) as at_bare,
            ):
                there = Target(at_large, large, crowd, directory)
                guarded = Target(at_guarded, small, for_service, directory)
                bare = Target(at_bare, small, for_service, directory)
                stage = Stage(here, guarded, bare, there, Reference(small.server, for_pgbench, rows[0]), plan.seconds)
                results = measures.measure(stage, plan, console)
                proved = checks.prove(here, plan.verified) + checks.prove(there, plan.verified)
                asked = _pages(there, plan, console)
        with service.running(small.url, directory / "memory.log") as fresh:
            again = Target(fresh, small, for_service, directory)
            kept = _memory(again, plan, console)
            proved += checks.prove(again, plan.verified)
        checks.count_reference(small, for_pgbench)
        starts = [_start(small, directory) for _ in range(plan.starts)]
        facts = [
            (
                "rounds",
                f"{plan.rounds}, a load {plan.seconds} s; loads that no target needs: every {plan.every} rounds",
            ),
            ("a second", "decisions and rewards, also where many make a call; of pgbench, transactions"),
            ("percentiles", "of the service as wrk gives them, corrected for coordinated omission; pgbench's are not"),
            (
                "decisions there before",
                "made by COPY after the pattern of some of the service's own, 10 candidates each",
            ),
            *_facts(small, "small database"),
            *_facts(large, "large database"),
            ("users proved by GET /users/{user_id}/verify", f"{proved}, all verified"),
        ]
    return Ran(about, results, kept, asked, starts, facts)


def _memory(target: Target, plan: Plan, console: Console) -> Memory | str:
    try:
        return memory.measure(target, plan, console)
    except FailedRunError as error:
        return str(error)


def _pages(target: Target, plan: Plan, console: Console) -> Pages | str:
    try:
        return pages.measure(target, plan, console)
    except FailedRunError as error:
        return str(error)


def _start(small: Database, directory: Path) -> float:
    with service.running(small.url, directory / "starts.log") as one:
        return one.start_seconds


def _facts(one: Database, name: str) -> list[tuple[str, str]]:
    sizes = one.sizes()
    return [
        (f"{name}, at the end", f"{sizes.users:,} users, {sizes.decisions:,} decisions, {sizes.bytes / 1e9:.1f} GB"),
        (f"{name}: updates of policy_state that were HOT", f"{sizes.hot_share:.1%}"),
    ]


def _leave(number: int, _frame: object) -> NoReturn:
    # Once is enough: tidying up, which takes its time, is not to be disturbed.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _leave)
    typer.run(main)
