"""`oo-ml replay`: a user as exported from another database, to the last bit."""

from typing import Annotated

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.results import AsJson, print_json


def replay_file(
    file: Annotated[
        typer.FileBinaryRead,
        typer.Argument(metavar="FILE", help="A file that `oo-ml export` wrote; - is standard input"),
    ],
    as_json: AsJson = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Write an exported user to this database, bit for bit, in one transaction.

    The state must be the fold of its ledger. An existing user is never changed: exit code 0 if the user equals the
    export, else 1. A refusal writes nothing and exits with 1.
    """
    from oo_ml.files.export_document import open_export
    from oo_ml.services.database import run_once
    from oo_ml.services.users.replay import replay

    # Reading comes first: standard input may be slow, and no transaction should wait for it.
    with open_export(file) as export, open_database() as (url, settings):
        [done] = run_once(settings, url, replay, [export], long=True)
    if as_json:
        print_json({"unchanged": done.unchanged, "rows": dict(done.rows)})
        return
    rows = ", ".join(f"{name} {count}" for name, count in done.rows.items())
    typer.echo(f"{'unchanged' if done.unchanged else 'replayed'}: {rows}")
