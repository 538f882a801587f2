"""The file that `oo-ml export` writes: JSON Lines. A header comes first, then a row a line, last the count of rows.

`open_export` checks everything that can be checked without a database; a refusal names the line. It also reads
format 1, the single JSON document of the pre-release.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, Final

from oo_ml.domain.identifiers import EPOCH, is_user_id
from oo_ml.errors import ExportFileError

FORMAT: Final = "oo-ml export"
FORMAT_VERSION: Final = 2
# A decision among 1,000 candidates takes some hundred thousand bytes. For format 1, this bounds the whole file.
MAX_LINE_BYTES: Final = 64 * 1_048_576
_IN_MEMORY: Final = 262_144
_AGAIN: Final = "export the user again"

# A line's place in the file, for messages, and its JSON.
_Line = tuple[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """The rows of a user, as they were exported.

    Attributes:
        starts: for each table that has rows, the offset of the first in `lines`.
        lines: a JSON list a row: its table, its place in the export, and the row.
        history_from: decisions before it may be missing, because retention had removed them; None: none are missing.
    """

    user_id: str
    history_from: datetime | None
    starts: Mapping[str, int]
    lines: IO[bytes]

    def read_rows(self, table: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the place and the columns of each row of a table, in the order of the export."""
        if table in self.starts:
            self.lines.seek(self.starts[table])
            for name, place, row in map(json.loads, self.lines):
                if name != table:
                    return
                yield place, row


@contextmanager
def open_export(source: IO[bytes]) -> Iterator[Export]:
    """Read `source` to its end and yield the export in it; `source` stays open.

    Raises:
        ExportFileError: It cannot be read, or is not a complete export of one user.
    """
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as lines:
        try:
            export = _read(_parse_lines(source), lines)
        except OSError as error:
            raise ExportFileError(f"Cannot read the export: {error.strerror}") from None
        except RecursionError:
            raise ExportFileError("A row is nested too deeply") from None
        yield export


def _read(lines: Iterator[_Line], copy: IO[bytes]) -> Export:
    user_id, history_from = _read_header(*next(lines, ("line 1", None)))
    starts: dict[str, int] = {}
    place, table, count, before = "line 1", "", 0, None
    for place, line in lines:
        match line:
            case {"table": str(name), "row": {"user_id": str(owner)}, **others} if owner == user_id and not others:
                if line == before:
                    raise ExportFileError(f"{place}: the same row as before it; {_AGAIN}")
                if name != table and name in starts:
                    raise ExportFileError(f"{place}: the rows of {name!r} are not together; {_AGAIN}")
                starts.setdefault(name, copy.tell())
                copy.write(json.dumps([name, place, line["row"]]).encode() + b"\n")
                table, before = name, line
                count += 1
            case {"complete": True, "rows": rows, **others} if not others:
                if rows != count:
                    raise ExportFileError(f"{place}: {count} rows come before it, not {rows}; {_AGAIN}")
                for behind, _ in lines:
                    raise ExportFileError(f"{behind}: comes after the last line of the export; {_AGAIN}")
                return Export(user_id, history_from, starts, copy)
            case _:
                raise ExportFileError(f"{place}: not a row of {user_id!r}; {_AGAIN}")
    raise ExportFileError(f"{place}: the file ends here, before the line that says it is complete; {_AGAIN}")


def _read_header(place: str, header: object) -> tuple[str, datetime | None]:
    """Return user_id and history_from."""
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ExportFileError(f"{place}: not the header of an export of oo-ml")
    if header.get("format_version") != FORMAT_VERSION:
        raise ExportFileError(
            f"{place}: format_version: this release reads {FORMAT_VERSION}; use the release that wrote the export, or a"
            " later one"
        )
    user_id, history_from = header.get("user_id"), header.get("history_from")
    if not (isinstance(user_id, str) and is_user_id(user_id)):
        raise ExportFileError(f"{place}: user_id: the service accepts no such id")
    time = _parse_time(history_from)
    if history_from is not None and (time is None or time < EPOCH):
        raise ExportFileError(
            f"{place}: history_from: must be null or a time in ISO 8601 with its offset, from 1970 on"
        )
    return user_id, time


def _parse_time(value: object) -> datetime | None:
    """Return the time in text that has an offset, None for anything else."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time and time.tzinfo else None


def _parse_lines(source: IO[bytes]) -> Iterator[_Line]:
    number = 0
    while line := source.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1 and line.strip() == b"{":
            yield from _convert(line + source.read(MAX_LINE_BYTES))
            return
        yield f"line {number}", _parse(f"line {number}", line)


def _parse(place: str, text: bytes) -> Any:  # noqa: ANN401 - JSON
    if len(text) > MAX_LINE_BYTES:
        raise ExportFileError(f"{place}: longer than {MAX_LINE_BYTES:,} bytes")
    try:
        # An editor may have put a byte order mark at the beginning.
        return json.loads(text.decode("utf-8-sig"))
    except ValueError:
        raise ExportFileError(f"{place}: not JSON in UTF-8; {_AGAIN}") from None


def _convert(text: bytes) -> Iterator[_Line]:
    """Yield the lines that format 2 has for a document of format 1: one object, with a list of rows for each table."""
    document = _parse("The file", text)
    tables = {name: rows for name, rows in document.items() if isinstance(rows, list)}
    header = {name: value for name, value in document.items() if name not in tables}
    if header.get("format_version") != 1:
        raise ExportFileError("The file is one JSON object, but not an export of the pre-release (format_version 1)")
    yield "The header", header | {"format_version": FORMAT_VERSION}
    for name, rows in tables.items():
        for number, row in enumerate(rows, 1):
            yield f"{name}, row {number}", {"table": name, "row": row}
    yield "The end", {"complete": True, "rows": sum(map(len, tables.values()))}
