"""`oo-ml replay`: a person as exported from another database, to the last bit."""

from typing import Annotated

import typer

from oo_ml.cli.logs import configure_logs
from oo_ml.files.export_document import opened
from oo_ml.services.database import database, run_once
from oo_ml.services.users.replay import replay
from oo_ml.settings import Settings


def replay_file(
    file: Annotated[
        typer.FileBinaryRead,
        typer.Argument(metavar="FILE", help="What `oo-ml export` wrote; - is standard input"),
    ],
) -> None:
    """Make a person here what they were where they were exported, bit for bit, in one transaction.

    The state has to be what its ledger gives. Whoever is here already is left as they are, and it is an error unless
    they are exactly as exported.
    """
    settings = Settings()
    configure_logs(settings)
    # Read to its end first: nobody holds a transaction open while somebody types.
    with opened(file) as document, database(settings) as url:
        [done] = run_once(settings, url, replay, [document], long=True)
    rows = ", ".join(f"{name} {count}" for name, count in done.rows.items())
    typer.echo(f"{'unchanged' if done.unchanged else 'replayed'}: {rows}")
