"""`oo-ml import-state`: import of the file-based service's states."""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.exit_codes import ExitCode
from oo_ml.cli.results import AsJson, print_json, printable
from oo_ml.errors import ImportSourceError, OoMlError
from oo_ml.progress import progress
from oo_ml.services.database import single_connection
from oo_ml.services.users.import_state import Outcome, Verdict, find_source, import_files, list_refused

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
    as_json: AsJson = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Import the state files of the file-based service.

    A file name gives the user's id only if the id has letters and digits alone; list other ids in a file (--users).
    A user with a newer state keeps it, and a second run changes nothing. Exit code 1 if a file could not be imported.
    """
    source = find_source(directory, users)
    if not source.listing.files and not source.listing.refused:
        raise ImportSourceError(f"{directory} holds no state files (NAME.json)")
    report = _Report(source.listing.ignored, dry_run)
    _add(report, list_refused(source))
    with (
        open_database("warning") as (url, settings),
        single_connection(settings, url, read_only=dry_run) as engine,
    ):
        batches = import_files(engine, settings, source, imported_at=datetime.now(UTC), dry_run=dry_run)
        try:
            # The report goes to stdout, so that it can be redirected to a file without the progress bar.
            with progress(sys.stderr, "Importing", len(source.listing.files)) as advance:
                for batch in batches:
                    _add(report, batch)
                    advance(len(batch))
        except (OoMlError, KeyboardInterrupt):
            _show(report, as_json=as_json, is_complete=False)
            raise
    _show(report, as_json=as_json)
    if report.counts.keys() - _FINE:
        raise typer.Exit(ExitCode.FAILED)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A file that was not simply imported."""

    verdict: Verdict
    file: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Report:
    """Number of files for each verdict, and the files that were not simply imported."""

    ignored: int
    dry_run: bool
    counts: Counter[Verdict] = field(default_factory=Counter)
    listed: list[_Listed] = field(default_factory=list)


def _add(report: _Report, outcomes: Iterable[tuple[str, Outcome]]) -> None:
    for file, outcome in outcomes:
        report.counts[outcome.verdict] += 1
        if outcome.verdict in _LISTED:
            report.listed.append(_Listed(outcome.verdict, file, outcome.reason))


def _show(report: _Report, *, as_json: bool, is_complete: bool = True) -> None:
    listed = sorted(report.listed, key=lambda one: _LISTED.index(one.verdict))
    counts = {str(verdict): report.counts[verdict] for verdict in Verdict} | {"ignored": report.ignored}
    if as_json:
        files = [asdict(one) for one in listed]
        print_json({"complete": is_complete, "dry_run": report.dry_run, "counts": counts, "files": files})
        return
    if not is_complete:
        typer.echo("Stopped before the end; the same command goes on from there. So far:")
    for one in listed:
        # A file's name can hold any character, also escape sequences of terminals.
        typer.echo(f"{one.verdict}: {printable(one.file)}: {one.reason}")
    typer.echo(", ".join(f"{verdict} {count}" for verdict, count in counts.items()))
    if report.dry_run:
        typer.echo("A dry run: nothing was written")
