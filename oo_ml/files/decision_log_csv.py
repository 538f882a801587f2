"""Anybody's log of decisions as CSV, read some rows at a time; whatever is wrong with it is said in one line."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from oo_ml.errors import LogFileError

# Beyond it, or as close to zero, sums of squares might not be finite.
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


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n rows of a log, each column an array of shape (n,); the last two are None where the log has no such."""

    reward: NDArray[np.float64]
    propensity: NDArray[np.float64]
    p_target: NDArray[np.float64]
    q_logged: NDArray[np.float64] | None = None
    q_target: NDArray[np.float64] | None = None


def read(source: IO[bytes]) -> Iterator[Rows]:
    """Yield what `source` holds, which is read once, from where it is to its end.

    Raises:
        LogFileError: there is no header, or a value is missing or makes no sense.
    """
    text = io.TextIOWrapper(source, "utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        names = _named(header)
        rows = _numbers(reader, header, names)
        while block := list(islice(rows, _ROWS_AT_ONCE)):
            yield Rows(**dict(zip(names, np.array(block).T, strict=True)))
    except UnicodeDecodeError:
        raise LogFileError("This is not UTF-8") from None
    except csv.Error as error:
        raise LogFileError(f"line {reader.line_num}: this is not CSV: {error}") from None
    except OSError as error:
        raise LogFileError(f"Reading the log failed: {error.strerror}") from None
    finally:
        # Else it would close `source`, which is not its own.
        text.detach()


def _named(header: Sequence[str]) -> Mapping[str, _Range]:
    """Return the columns of numbers that a log with this header has."""
    names = {**_NUMBERS, **(_MODEL if _MODEL.keys() & set(header) else {})}
    if missing := [name for name in (_ACTION, *names) if name not in header]:
        raise LogFileError(f"line 1: no column {', '.join(missing)}; the first line names the columns")
    if twice := [name for name in (_ACTION, *names) if header.count(name) > 1]:
        raise LogFileError(f"line 1: more than one column {', '.join(twice)}")
    return names


# typeshed has no public name for what csv.reader returns.
def _numbers(reader: Any, header: Sequence[str], names: Mapping[str, _Range]) -> Iterator[list[float]]:  # noqa: ANN401
    """Yield the numbers of each row, in the order of `names`."""
    places = [(name, header.index(name), names[name]) for name in names]
    for row in reader:
        if len(row) == len(header):
            yield [_number(row[place], name, reader.line_num, range_) for name, place, range_ in places]
        elif row:
            raise LogFileError(f"line {reader.line_num}: {len(row)} values, but line 1 names {len(header)} columns")


def _number(text: str, name: str, line: int, range_: _Range) -> float:
    try:
        number = float(text)
    except ValueError:
        number = None
    # Python's own way to write a thousand.
    if number is None or "_" in text:
        raise LogFileError(f"line {line}, {name}: this is no number")
    if not range_.holds(number):
        raise LogFileError(f"line {line}, {name}: must be {range_.says}")
    return number
