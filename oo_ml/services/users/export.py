"""All that is known of a person, as one JSON document: what the right of access asks for, and what replay reads.

It is written to a temporary file while it is read, so that neither its length nor a slow reader matters to anybody.
"""

import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from importlib.metadata import version
from typing import IO, Final

from sqlalchemy import Connection

from oo_ml.errors import ExportFileError
from oo_ml.files.export_document import FORMAT, FORMAT_VERSION
from oo_ml.storage import audit, personal_data, upkeep
from oo_ml.storage.postgres import json_rows
from oo_ml.storage.schema import migrate

# Whoever is known as little as most people are never touches a disk.
_IN_MEMORY: Final = 262_144


def export(connection: Connection, user_ids: Sequence[str], *, exported_at: datetime) -> list[IO[bytes]]:
    """Return a document a person, each a temporary file at its beginning, which is gone once it is closed.

    Raises:
        ExportFileError: there is no room for it.
    """
    audit.begin_snapshot(connection)
    with ExitStack() as unless_all_are_written:
        documents: list[IO[bytes]] = []
        for user_id in user_ids:
            document = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - whoever reads it closes it
            unless_all_are_written.enter_context(document)
            _write(document, _lines(connection, user_id, exported_at))
            documents.append(document)
        unless_all_are_written.pop_all()
        return documents


def _write(document: IO[bytes], lines: Generator[str]) -> None:
    with closing(lines):
        for line in lines:
            try:
                document.write(line.encode())
            except OSError as error:
                raise ExportFileError(f"The export can't be written: {error.strerror}") from None
    document.seek(0)


def _lines(connection: Connection, user_id: str, exported_at: datetime) -> Generator[str]:
    """Yield the document: a line for each of its first members, then for each row of each table."""
    head = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "release": version("oo-ml"),
        "schema": migrate.revision(connection),
        "exported_at": exported_at,
        "user_id": user_id,
        # Whoever reads it can tell what retention has taken away from what is lost.
        "history_from": upkeep.read_history_from(connection),
    }
    yield "{\n" + ",\n".join(json_rows.dump({name: value})[1:-1] for name, value in head.items())
    for name, parts in personal_data.whole(personal_data.tables(connection)).items():
        yield f",\n{json_rows.dump({name: []})[1:-2]}"
        between = "\n"
        with closing(personal_data.rows(connection, parts, user_id)) as rows:
            for row in rows:
                yield between + json_rows.dump(row)
                between = ",\n"
        yield "\n]"
    yield "\n}\n"
