"""`python -m bench.regret` measures what users lose until a policy knows them, and prints the figures as Markdown."""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Final

import typer

from bench.regret import report
from bench.regret.measure import Regret, measure, measure_peers
from bench.regret.streams import STREAMS

_QUICK: Final = ("alike", "half", "hours")
_QUICK_SEEDS: Final = 5
_SEEDS: Final = 20


def main(
    *,
    quick: Annotated[
        bool, typer.Option(help="Three streams and five seeds; limits are shown, and fail nothing")
    ] = False,
    peers: Annotated[
        Path | None,
        typer.Option(help="The Python of an environment with MABWiser and Vowpal Wabbit, to measure them too"),
    ] = None,
) -> None:
    """Measure regret on simulated streams. Exits with 1 if a limit is missed."""
    streams = [one for one in STREAMS if not quick or one.name in _QUICK]
    seeds = _QUICK_SEEDS if quick else _SEEDS
    drawings = [(stream, seed) for stream in streams for seed in range(1, seeds + 1)]
    with ProcessPoolExecutor() as workers, tempfile.TemporaryDirectory(prefix="oo-ml-bench-") as directory:
        measured = list(workers.map(measure, *zip(*drawings, strict=True)))
        others: list[dict[str, Regret]] = [{}] * len(drawings)
        if peers is not None:
            others = measure_peers(peers, Path(directory), drawings, workers)
    rows = [
        report.average(stream, measured[start : start + seeds], others[start : start + seeds])
        for start, stream in zip(range(0, len(drawings), seeds), streams, strict=True)
    ]
    typer.echo(report.markdown(rows, seeds), nl=False)
    if not quick and not all(one.is_met for one in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
