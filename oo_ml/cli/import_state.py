"""`oo-ml import-state`: import of the file-based service's states."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from oo_ml.cli.logs import configure_logs
from oo_ml.errors import ImportSourceError, OoMlError
from oo_ml.progress import progress
from oo_ml.services.database import single_connection
from oo_ml.services.database_address import database
from oo_ml.services.users.import_state import Outcome, Verdict, find_source, import_files, list_refused
from oo_ml.settings import LogLevel, Settings

_FINE: Final = frozenset({Verdict.IMPORTED, Verdict.UNCHANGED, Verdict.KEPT})
_LISTED: Final = (Verdict.KEPT, Verdict.BAD, Verdict.AMBIGUOUS, Verdict.UNKNOWN)


def import_state(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", exists=True, file_okay=False, readable=True, help="Holds NAME.json and NAME_egreedy.json"
        ),
    ],
    users: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, readable=True, help="Ids of users, one a line"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would be imported; write nothing")] = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Import the state files of the file-based service.

    A file name gives the user's id only if the id has letters and digits alone; list other ids in a file (--users).
    A user with a newer state keeps it, and a second run changes nothing. Exit code 1 if a file could not be imported.
    """
    source = find_source(directory, users)
    if not source.listing.files and not source.listing.refused:
        raise ImportSourceError(f"{directory} holds no state files (NAME.json)")
    settings = Settings()
    configure_logs(settings, LogLevel.WARNING)
    report = _Report(source.listing.ignored, dry_run)
    _add(report, list_refused(source))
    with database(settings) as url, single_connection(settings, url, read_only=dry_run) as engine:
        batches = import_files(engine, settings, source, imported_at=datetime.now(UTC), dry_run=dry_run)
        try:
            # The report goes to stdout, so that it can be redirected to a file without the progress bar.
            with progress(Console(stderr=True), "Importing", len(source.listing.files)) as advance:
                for batch in batches:
                    _add(report, batch)
                    advance(len(batch))
        except (OoMlError, KeyboardInterrupt):
            typer.echo("Stopped before the end; the same command goes on from there. So far:")
            _show(report)
            raise
    _show(report)
    if report.counts.keys() - _FINE:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Report:
    """Number of files for each verdict, and a line for each file that was not simply imported."""

    ignored: int
    dry_run: bool
    counts: Counter[Verdict] = field(default_factory=Counter)
    lines: dict[Verdict, list[str]] = field(default_factory=lambda: {verdict: [] for verdict in _LISTED})


def _add(report: _Report, outcomes: Iterable[tuple[str, Outcome]]) -> None:
    for file, outcome in outcomes:
        report.counts[outcome.verdict] += 1
        if outcome.verdict in report.lines:
            # A file's name can hold any character, also escape sequences of terminals.
            name = file if file.isprintable() else repr(file)
            report.lines[outcome.verdict].append(f"{outcome.verdict}: {name}: {outcome.reason}")


def _show(report: _Report) -> None:
    for line in chain.from_iterable(report.lines.values()):
        typer.echo(line)
    verdicts = [f"{verdict} {report.counts[verdict]}" for verdict in Verdict]
    typer.echo(", ".join([*verdicts, f"ignored {report.ignored}"]))
    if report.dry_run:
        typer.echo("A dry run: nothing was written")
