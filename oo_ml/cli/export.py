"""`oo-ml export`: all that is known of a person, as one JSON document."""

import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Annotated

import typer

from oo_ml.cli.logs import configure_logs
from oo_ml.cli.options import user_id
from oo_ml.errors import ExportFileError
from oo_ml.services.database import database, run_once
from oo_ml.services.users.export import export
from oo_ml.settings import Settings


def export_person(
    user: Annotated[str, typer.Option(metavar="ID", help="The person", callback=user_id)],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Where to, readable by you alone; default: standard output"),
    ] = None,
) -> None:
    """Write every row of a person in every table as one JSON document, which `oo-ml replay` reads.

    Reads only, beside a service at work, and all of it as it is at one moment.
    """
    settings = Settings()
    configure_logs(settings)
    with database(settings) as url:
        service = partial(export, exported_at=datetime.now(UTC))
        [document] = run_once(settings, url, service, [user], read_only=True, long=True)
    with document:
        try:
            if output is None:
                shutil.copyfileobj(document, sys.stdout.buffer)
                sys.stdout.flush()
            else:
                _save(document, output)
        except BrokenPipeError:
            # Whoever reads has had enough, which is for click to deal with.
            raise
        except OSError as error:
            raise ExportFileError(f"{output or 'Standard output'} can't be written: {error.strerror}") from None


def _save(document: IO[bytes], output: Path) -> None:
    """Write the whole of `document` to `output`, or leave that as it was."""
    with tempfile.NamedTemporaryFile(dir=output.parent, prefix=f".{output.name}.", delete=False) as file:
        beside = Path(file.name)
        try:
            shutil.copyfileobj(document, file)
            file.flush()
            os.fsync(file.fileno())
            beside.replace(output)
        finally:
            beside.unlink(missing_ok=True)
