"""`oo-ml audit`: the log of administrative actions."""

from dataclasses import asdict
from typing import Annotated, Final

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.results import AsJson, Column, print_records

app = typer.Typer(
    help="Show the log of administrative actions: keys, prompt versions, users exported, erased and reset.",
    no_args_is_help=True,
    add_completion=False,
)


_COLUMNS: Final = (
    Column("time (UTC)", lambda entry: f"{entry['happened_at']:%Y-%m-%d %H:%M:%S}"),
    Column("actor", lambda entry: entry["actor"]),
    Column("action", lambda entry: entry["action"]),
    Column("subject", lambda entry: entry["subject"] or ""),
    Column("request", lambda entry: entry["request_id"] or ""),
)


@app.callback()
def _audit() -> None:
    """Keep `list` a command of its own: Typer would make a single command the whole group."""


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="Entries to list, at most")] = 100,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """List the latest entries, the latest first. Read-only. The log contains no ids of users."""
    from oo_ml.services.access import audit_log
    from oo_ml.services.database import run_once

    with open_database() as (url, settings):
        [entries] = run_once(settings, url, audit_log.list_latest, [limit], read_only=True)
    records = [asdict(entry) | {"entry_id": str(entry.entry_id)} for entry in entries]
    print_records(records, _COLUMNS, as_json=as_json)
