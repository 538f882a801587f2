"""A document that `oo-ml export` wrote, read again: taken apart row by row, so that its length does not matter.

What is checked here is what can be told without a database. A refusal says what is wrong in one line.
"""

import io
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, Final, NoReturn, TextIO

from oo_ml.domain.identifiers import EPOCH, is_user_id
from oo_ml.errors import ExportFileError

FORMAT: Final = "oo-ml export"
FORMAT_VERSION: Final = 1
# Those that every document of this version has. A later release may have more of them.
TABLES: Final = frozenset({"feature_history", "generations", "policy_state", "reward_ledger", "tips"})

_TEXTS: Final = frozenset({"release", "schema", "exported_at"})
_HEAD: Final = {"format", "format_version", "user_id"} | _TEXTS
# Not in the first documents of this version.
_HISTORY_FROM: Final = "history_from"
_CHUNK: Final = 65_536
# Of one row, in characters; a decision among 1,000 candidates has some hundred thousand.
_LONGEST: Final = 64 * 1_048_576
_IN_MEMORY: Final = 262_144
_FOLLOWING: Final = ",:]} \t\n\r"
_SPACE: Final = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """What is known of a person, as it was exported.

    Attributes:
        user_id: who it is.
        tables: their rows, a line of JSON each.
        history_from: decisions before it may be missing, which retention had taken out; None: none are.
    """

    user_id: str
    tables: Mapping[str, IO[str]]
    history_from: datetime | None = None

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Yield a table's rows, in the order of the document, as often as asked for.

        Raises:
            ExportFileError: one is somebody else's, or no row at all.
        """
        lines = self.tables[table]
        lines.seek(0)
        for number, row in enumerate(map(json.loads, lines), 1):
            if not isinstance(row, dict) or row.get("user_id") != self.user_id:
                raise ExportFileError(f"{table}, row {number}: not a row of {self.user_id!r}")
            yield row


@contextmanager
def opened(source: IO[bytes]) -> Iterator[Document]:
    """Yield the document that `source` holds, which is read once, from where it is to its end.

    Raises:
        ExportFileError: it is none.
    """
    with ExitStack() as files:
        text = io.TextIOWrapper(source, "utf-8-sig")
        # Else it would close `source`, which is not its own.
        files.callback(text.detach)
        try:
            document = _read(_Reader(text), files)
        except UnicodeDecodeError:
            raise ExportFileError("This is not UTF-8") from None
        except RecursionError:
            raise ExportFileError("This is nested too deeply") from None
        except OSError as error:
            raise ExportFileError(f"Reading the export failed: {error.strerror}") from None
        yield document


def _read(reader: "_Reader", files: ExitStack) -> Document:
    head: dict[str, Any] = {}
    tables: dict[str, IO[str]] = {}
    for name, value in reader.members():
        if name in head or name in tables:
            raise ExportFileError(f"{name!r} is there twice")
        if isinstance(value, Iterator):
            lines = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="ascii")  # noqa: SIM115 - `files` closes it
            tables[name] = files.enter_context(lines)
            # One by one: writelines looks only at its end whether there is more than should be in memory.
            for row in value:
                lines.write(f"{json.dumps(row)}\n")
        else:
            head[name] = value
            _check(name, value)
    missing = (_HEAD - head.keys()) | (TABLES - tables.keys())
    if missing:
        raise ExportFileError(f"{', '.join(map(repr, sorted(missing)))} missing: this is no whole export of oo-ml")
    history_from = head.get(_HISTORY_FROM)
    return Document(head["user_id"], tables, history_from and _time(history_from))


def _check(name: str, value: object) -> None:
    """Refuse a member as soon as it is read: whatever else is behind it need not be."""
    match name:
        case "format" if value != FORMAT:
            raise ExportFileError("format: this is no export of oo-ml")
        case "format_version" if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ExportFileError("format_version: must be a positive integer")
        case "format_version" if value != FORMAT_VERSION:
            raise ExportFileError(
                f"format_version: {value} is newer than what this release reads ({FORMAT_VERSION}): use the one that"
                " wrote it, or a later one"
            )
        case "user_id" if not (isinstance(value, str) and is_user_id(value)):
            raise ExportFileError("user_id: the service accepts no such id")
        case _ if name in _TEXTS and not isinstance(value, str):
            raise ExportFileError(f"{name}: must be text")
        case "history_from" if value is not None and ((time := _time(value)) is None or time < EPOCH):
            raise ExportFileError(f"{name}: must be null or a time in ISO 8601 with its offset, from 1970 on")
        case _ if name in TABLES:
            raise ExportFileError(f"{name}: must be a list of rows")
        case _ if name not in _HEAD | {_HISTORY_FROM}:
            raise ExportFileError(f"{name!r} is unknown to this release")


def _time(value: object) -> datetime | None:
    """Return a time that is text with its offset; None if it is not."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time and time.tzinfo else None


class _Reader:
    """Reads one JSON object, whatever its white space, without ever holding more of it than one value."""

    def __init__(self, source: TextIO) -> None:
        self._source = source
        self._text = ""
        self._at = 0
        self._line = 1
        self._decoder = json.JSONDecoder(parse_constant=self._constant)

    def members(self) -> Iterator[tuple[str, Any]]:
        """Yield each member; one that is a list as an iterator, which has to be used up before the next."""
        self._take("{")
        while True:
            name = self._value() if self._peek() == '"' else self._fail("expected a name in quotes")
            self._take(":")
            yield name, self._elements() if self._peek() == "[" else self._value()
            if self._take(",}") == "}":
                break
        if self._peek():
            self._fail("expected the end of the file")

    def _elements(self) -> Iterator[Any]:
        self._take("[")
        if self._peek() == "]":
            self._take("]")
            return
        while True:
            yield self._value()
            if self._take(",]") == "]":
                return

    def _value(self) -> Any:  # noqa: ANN401 - JSON
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more():
                    self._at = min(error.pos, len(self._text))
                    self._fail(error.msg)
                continue
            except ValueError:
                # The only one that json itself raises besides: an integer of thousands of digits.
                self._fail("a number has too many digits")
            # Of a number that goes on behind what has been read so far, this may be the beginning.
            length, follows = end - self._at, self._text[end : end + 1]
            if (follows and follows in _FOLLOWING) or not self._more():
                self._at += length
                return value

    def _take(self, expected: str) -> str:
        found = self._peek()
        if not found or found not in expected:
            self._fail(f"expected {' or '.join(map(repr, expected))}")
        self._at += 1
        return found

    def _peek(self) -> str:
        """Return the next character that isn't space, or nothing at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read on, letting go of what is behind; as much again as is still in use, so that each is read few times."""
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :], 0
        if len(self._text) > _LONGEST:
            self._fail("a value is too long")
        read = self._source.read(max(_CHUNK, len(self._text)))
        self._text += read
        return bool(read)

    def _constant(self, name: str) -> None:
        # Python's own addition to JSON: NaN, Infinity.
        self._fail(f"{name} is no number")

    def _fail(self, expected: str) -> NoReturn:
        line = self._line + self._text.count("\n", 0, self._at)
        raise ExportFileError(f"line {line}: this is not JSON: {expected}")
