"""`oo-ml export`: every row of a user, as JSON Lines."""

import shutil
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.options import user_id
from oo_ml.cli.outputs import open_output
from oo_ml.domain.access import COMMAND_LINE


def export_user(
    user: Annotated[str, typer.Option(metavar="ID", help="The user's id", callback=user_id)],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="File to write, readable by you alone; default: stdout"),
    ] = None,
) -> None:
    """Write every row of a user in every table, of one moment, in the format that `oo-ml replay` reads.

    JSON Lines: a header, one row a line, and a last line with the number of rows. Safe while the service is running.
    Adds an entry to the audit log, and writes nothing else.
    """
    from oo_ml.services.access.audit_log import Action, record
    from oo_ml.services.database import run_once
    from oo_ml.services.users.export import export

    with open_database() as (url, settings):
        now = datetime.now(UTC)
        run_once(settings, url, record, [Action("user.exported", COMMAND_LINE, now)])
        [file] = run_once(settings, url, partial(export, exported_at=now), [user], read_only=True, long=True)
    with file, open_output(output) as copy:
        shutil.copyfileobj(file, copy)
