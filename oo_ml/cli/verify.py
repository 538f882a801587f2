"""`oo-ml verify`: the proof that every state is the fold of its ledger."""

from typing import Annotated

import typer
from rich.console import Console

from oo_ml.cli.logs import configure_logs
from oo_ml.cli.options import user_id
from oo_ml.errors import OoMlError
from oo_ml.progress import progress
from oo_ml.services.audit import verify as audit
from oo_ml.services.audit.verify import Report
from oo_ml.services.database import single_connection
from oo_ml.services.database_address import database
from oo_ml.services.walk_users import Walk, walk_all, walk_sample, walk_users
from oo_ml.settings import Settings


def verify(
    user: Annotated[str | None, typer.Option(metavar="ID", help="Verify one user", callback=user_id)] = None,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1_000_000, help="Verify N users, drawn at random")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Verify all users; the default")] = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Check that each stored state is the fold of its ledger.

    Compares states bit for bit, and the ledger with the decisions. Read-only; safe while the service is running. Exit
    code 1 at the first difference, which the command prints.
    """
    if (user is not None) + (sample is not None) + all_ > 1:
        raise typer.BadParameter("--user, --sample and --all exclude each other")
    settings = Settings()
    configure_logs(settings)
    with database(settings) as url, single_connection(settings, url, read_only=True, long=True) as engine:
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
            typer.echo(f"Stopped before the end; no difference so far: {_totals(reports)}")
            raise
    if reports[-1:] and (difference := reports[-1].difference):
        typer.echo(f"difference: {_printable(difference.user_id)}: {difference.sentence}")
        typer.echo(f"Stopped there: {_totals(reports)}")
        raise typer.Exit(1)
    if user is not None and not reports[0].states:
        typer.echo(f"Nothing is known of {_printable(user)}")
    typer.echo(f"No difference: {_totals(reports)}")


def _follow(walk: Walk[Report], reports: list[Report]) -> None:
    """Add the reports of the walk to `reports`, up to the first with a difference."""
    # On standard error, so that standard output has only the result.
    with progress(Console(stderr=True), "Verifying", walk.states) as advance:
        for report in walk.parts:
            reports.append(report)
            if report.difference is not None:
                return
            advance(report.states)


def _totals(reports: list[Report]) -> str:
    users, states, entries, decisions = (
        sum(getattr(report, count) for report in reports) for count in ("users", "states", "entries", "decisions")
    )
    return f"users {users}, states {states}, ledger entries {entries}, decisions {decisions}"


def _printable(user_id: str) -> str:
    # An id can hold anything, escape sequences too.
    return user_id if user_id.isprintable() else repr(user_id)
