"""`oo-ml audit`: the log of administrative actions."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from oo_ml.cli.database import open_database
from oo_ml.services.access import audit_log
from oo_ml.services.database import run_once

app = typer.Typer(
    help="Show the log of administrative actions: keys, prompt versions, users exported, erased and reset.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _audit() -> None:
    """Keep `list` a command of its own: Typer would make a single command the whole group."""


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="Entries to list, at most")] = 100,
) -> None:
    """List the latest entries, the latest first. Read-only. The log contains no ids of users."""
    with open_database() as (url, settings):
        [entries] = run_once(settings, url, audit_log.list_latest, [limit], read_only=True)
    table = Table("time (UTC)", "actor", "action", "subject", "request")
    for entry in entries:
        table.add_row(
            f"{entry.happened_at:%Y-%m-%d %H:%M:%S}",
            entry.actor,
            entry.action,
            entry.subject or "",
            entry.request_id or "",
        )
    Console().print(table)
