"""`oo-ml replay`: a user as exported from another database, to the last bit."""

from typing import Annotated

import typer

from oo_ml.cli.logs import configure_logs
from oo_ml.files.export_document import open_export
from oo_ml.services.database import run_once
from oo_ml.services.database_address import database
from oo_ml.services.users.replay import replay
from oo_ml.settings import Settings


def replay_file(
    file: Annotated[
        typer.FileBinaryRead,
        typer.Argument(metavar="FILE", help="A file that `oo-ml export` wrote; - is standard input"),
    ],
) -> None:
    """Write an exported user to this database, bit for bit, in one transaction.

    The state must be the fold of its ledger. An existing user is never changed: exit code 0 if the user equals the
    export, else 1. A refusal writes nothing and exits with 1.
    """
    settings = Settings()
    configure_logs(settings)
    # Reading comes first: standard input may be slow, and no transaction should wait for it.
    with open_export(file) as export, database(settings) as url:
        [done] = run_once(settings, url, replay, [export], long=True)
    rows = ", ".join(f"{name} {count}" for name, count in done.rows.items())
    typer.echo(f"{'unchanged' if done.unchanged else 'replayed'}: {rows}")
