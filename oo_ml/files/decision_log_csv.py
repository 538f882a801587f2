"""Reader of a log of decisions as CSV, in blocks of rows; an error names the line and column."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from oo_ml.errors import LogFileError

# Sums of squares of larger numbers, or of weights with smaller propensities, might not be finite.
_LARGEST: Final = 1e50
_ROWS_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class _Range:
    holds: Callable[[float], bool]
    says: str


_NUMBER: Final = _Range(lambda number: -_LARGEST <= number <= _LARGEST, f"a number from {-_LARGEST:g} to {_LARGEST:g}")
_NUMBERS: Final[Mapping[str, _Range]] = {
    "reward": _NUMBER,
    "propensity": _Range(lambda number: 1 / _LARGEST <= number <= 1, f"above 0 ({1 / _LARGEST:g}) and at most 1"),
    "p_target": _Range(lambda number: 0 <= number <= 1, "from 0 to 1"),
}
_MODEL: Final[Mapping[str, _Range]] = {"q_logged": _NUMBER, "q_target": _NUMBER}
_ACTION: Final = "action"
_USER: Final = "user"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n rows of a log, each column of numbers an array of shape (n,); None if the log lacks the column.

    Attributes:
        user: the user of each row, n of them.
    """

    reward: NDArray[np.float64]
    propensity: NDArray[np.float64]
    p_target: NDArray[np.float64]
    q_logged: NDArray[np.float64] | None = None
    q_target: NDArray[np.float64] | None = None
    user: Sequence[str] | None = None


def read(source: IO[bytes]) -> Iterator[Rows]:
    """Yield the rows from the current position of `source` to its end, in blocks.

    Raises:
        LogFileError: the header or a value is missing or invalid.
    """
    text = io.TextIOWrapper(source, "utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        names = _select_columns(header)
        rows = _parse_rows(reader, header, names)
        while block := list(islice(rows, _ROWS_AT_ONCE)):
            users, numbers = zip(*block, strict=True)
            columns = dict(zip(names, np.array(numbers).T, strict=True))
            yield Rows(**columns, user=users if _USER in header else None)
    except UnicodeDecodeError:
        raise LogFileError("The file is not UTF-8") from None
    except csv.Error as error:
        raise LogFileError(f"line {reader.line_num}: not valid CSV: {error}") from None
    except OSError as error:
        raise LogFileError(f"Reading the log failed: {error.strerror}") from None
    finally:
        # Otherwise `text` would close `source`, which belongs to the caller.
        text.detach()


def _select_columns(header: Sequence[str]) -> Mapping[str, _Range]:
    """Return the columns of numbers in a log with this header."""
    names = {**_NUMBERS, **(_MODEL if _MODEL.keys() & set(header) else {})}
    if missing := [name for name in (_ACTION, *names) if name not in header]:
        raise LogFileError(f"line 1: missing column {', '.join(missing)}")
    if twice := [name for name in (_ACTION, _USER, *names) if header.count(name) > 1]:
        raise LogFileError(f"line 1: column {', '.join(twice)} more than once")
    return names


# typeshed has no public name for what csv.reader returns.
def _parse_rows(reader: Any, header: Sequence[str], names: Mapping[str, _Range]) -> Iterator[tuple[str, list[float]]]:  # noqa: ANN401
    """Yield the user of each row, empty without the column, and its numbers, in the order of `names`."""
    user_place = header.index(_USER) if _USER in header else None
    places = [(name, header.index(name), names[name]) for name in names]
    for row in reader:
        if len(row) == len(header):
            user = "" if user_place is None else row[user_place]
            if not user and user_place is not None:
                raise LogFileError(f"line {reader.line_num}, {_USER}: empty")
            yield user, [_parse_number(row[place], name, reader.line_num, range_) for name, place, range_ in places]
        elif row:
            raise LogFileError(f"line {reader.line_num}: {len(row)} values, but line 1 names {len(header)} columns")


def _parse_number(text: str, name: str, line: int, range_: _Range) -> float:
    try:
        number = float(text)
    except ValueError:
        number = None
    # Python also reads 1_000.
    if number is None or "_" in text:
        raise LogFileError(f"line {line}, {name}: not a number")
    if not range_.holds(number):
        raise LogFileError(f"line {line}, {name}: must be {range_.says}")
    return number
