"""`oo-ml verify`: the proof that every state is the fold of its ledger."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.exit_codes import ExitCode
from oo_ml.cli.options import user_id
from oo_ml.cli.results import AsJson, print_json, printable
from oo_ml.errors import OoMlError
from oo_ml.progress import progress

if TYPE_CHECKING:
    from oo_ml.services.audit.differences import Difference
    from oo_ml.services.audit.verify import Report
    from oo_ml.services.walk_users import Walk


def verify(
    user: Annotated[str | None, typer.Option(metavar="ID", help="Verify one user", callback=user_id)] = None,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1_000_000, help="Verify N users, drawn at random")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Verify all users; the default")] = False,  # noqa: FBT002 - typer reads it as a flag
    as_json: AsJson = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Check that each stored state is the fold of its ledger.

    Compares states bit for bit, and the ledger with the decisions. Read-only; safe while the service is running. Exit
    code 1 at the first difference, which the command prints.
    """
    if (user is not None) + (sample is not None) + all_ > 1:
        raise typer.BadParameter("--user, --sample and --all exclude each other")
    from oo_ml.services.audit import verify as audit
    from oo_ml.services.database import single_connection
    from oo_ml.services.walk_users import walk_all, walk_sample, walk_users

    with open_database() as (url, settings), single_connection(settings, url, read_only=True, long=True) as engine:
        if user is not None:
            walk = walk_users(engine, settings, audit.verify, [user])
        elif sample is not None:
            walk = walk_sample(engine, settings, audit.verify, sample)
        else:
            walk = walk_all(engine, settings, audit.verify)
        reports: list[Report] = []
        try:
            _follow(walk, reports)
        except (OoMlError, KeyboardInterrupt):
            if not as_json:
                typer.echo(f"Stopped before the end; no difference so far: {_describe(reports)}")
            raise
    difference = reports[-1].difference if reports else None
    if as_json:
        print_json(_count(reports) | {"difference": None if difference is None else asdict(difference)})
    else:
        _show(reports, difference, user)
    if difference is not None:
        raise typer.Exit(ExitCode.FAILED)


def _follow(walk: "Walk[Report]", reports: "list[Report]") -> None:
    """Add the reports of the walk to `reports`, up to the first with a difference."""
    # On standard error, so that standard output has only the result.
    with progress(sys.stderr, "Verifying", walk.states) as advance:
        for report in walk.parts:
            reports.append(report)
            if report.difference is not None:
                return
            advance(report.states)


def _show(reports: "list[Report]", difference: "Difference | None", user: str | None) -> None:
    if difference is not None:
        # An id can hold any character, escape sequences too.
        typer.echo(f"difference: {printable(difference.user_id)}: {difference.sentence}")
        typer.echo(f"Stopped there: {_describe(reports)}")
        return
    if user is not None and not reports[0].states:
        typer.echo(f"Nothing is known of {printable(user)}")
    typer.echo(f"No difference: {_describe(reports)}")


def _count(reports: "list[Report]") -> dict[str, Any]:
    counts = ("users", "states", "entries", "decisions")
    return {count: sum(getattr(report, count) for report in reports) for count in counts}


def _describe(reports: "list[Report]") -> str:
    return "users {users}, states {states}, ledger entries {entries}, decisions {decisions}".format(**_count(reports))
