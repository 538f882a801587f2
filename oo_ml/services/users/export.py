"""Export of a user: every row, as JSON Lines. It answers the right of access, and `replay` reads it.

The rows go to a temporary file first, so a slow client keeps no transaction open.
"""

import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from importlib.metadata import version
from typing import IO, Any, Final

from oo_ml.errors import ExportFileError
from oo_ml.files.export_document import FORMAT, FORMAT_VERSION
from oo_ml.storage import audit, personal_data, upkeep
from oo_ml.storage.postgres import json_rows
from oo_ml.storage.postgres.sessions import Reading
from oo_ml.storage.schema import revisions

# Bytes. Most exports are smaller and never written to disk.
_IN_MEMORY: Final = 262_144


def export(connection: Reading, user_ids: Sequence[str], *, exported_at: datetime) -> list[IO[bytes]]:
    """Return an export for each user, all from one snapshot, as open temporary files. Closing a file deletes it.

    Raises:
        ExportFileError: The disk is full.
    """
    audit.begin_snapshot(connection)
    with ExitStack() as unless_all_are_written:
        exports: list[IO[bytes]] = []
        for user_id in user_ids:
            file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the caller closes it
            unless_all_are_written.enter_context(file)
            with closing(_generate_lines(connection, user_id, exported_at)) as lines:
                for line in lines:
                    _write(file, line)
            file.seek(0)
            exports.append(file)
        unless_all_are_written.pop_all()
        return exports


def _write(file: IO[bytes], line: dict[str, Any]) -> None:
    try:
        file.write(json_rows.dump(line).encode() + b"\n")
    except OSError as error:
        raise ExportFileError(f"Cannot write the export: {error.strerror}") from None


def _generate_lines(connection: Reading, user_id: str, exported_at: datetime) -> Generator[dict[str, Any]]:
    """Yield the header, each row, and a last line that marks the export as complete."""
    yield {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "release": version("oo-ml"),
        "schema": revisions.read(connection),
        "exported_at": exported_at,
        "user_id": user_id,
        # With it, replay can tell removed decisions (retention) from lost ones.
        "history_from": upkeep.read_history_from(connection),
    }
    count = 0
    for name, parts in personal_data.group_parts(personal_data.find_tables(connection)).items():
        with closing(personal_data.read_rows(connection, parts, user_id)) as rows:
            for row in rows:
                count += 1
                yield {"table": name, "row": row}
    yield {"complete": True, "rows": count}
