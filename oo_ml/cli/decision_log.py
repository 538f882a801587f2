"""`oo-ml log`: the log of decisions."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.options import Since, Until, refuse_empty_period
from oo_ml.cli.outputs import open_output
from oo_ml.files.decision_log_writers import Format, check, writing
from oo_ml.progress import progress

app = typer.Typer(
    help="Export the log of decisions: candidates, propensities and rewards.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _log() -> None:
    """Keep `export` a command of its own: Typer would make a single command the whole group."""


@app.command("export")
def export(
    format_: Annotated[Format, typer.Option("--format", help="Format of the file")],
    since: Since = None,
    until: Until = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="File to write, readable by you alone; default: stdout"),
    ] = None,
) -> None:
    """Write analytics.decision_log: one row a decision, of all users, in the order of time.

    Read-only; safe while the service is running, and an analyst's role may run it. Memory does not grow with the log.
    FILE appears when it is complete. Parquet needs --output, and the extra `oo-ml[parquet]`.
    """
    refuse_empty_period(since, until)
    if format_ is Format.PARQUET and output is None:
        raise typer.BadParameter("parquet needs --output: it is no text")
    check(format_)
    from oo_ml.services.analytics.decision_log import Period, walk_decisions
    from oo_ml.services.database import single_connection

    with open_database() as (url, settings), single_connection(settings, url, read_only=True, long=True) as engine:
        walk = walk_decisions(engine, settings, Period(since, until))
        # Progress goes to standard error, so that standard output has only the log.
        with (
            open_output(output) as file,
            writing(format_, file) as write,
            progress(sys.stderr, "Exporting", walk.decisions) as advance,
        ):
            for page in walk.pages:
                write(page)
                advance(len(page))
