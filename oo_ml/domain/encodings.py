"""Encodings: each turns one raw field of n rows into columns of numbers, shape (n, k).

A field is a JSON value: text, a number, a boolean, or a list of texts. Encodings are pure: equal values give equal
columns, bit for bit, in every release and on every machine.
"""

import math
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.identifiers import is_storable

# Texts of a list, at most. A longer list is a mistake, and its columns would dwarf all others.
MAX_TEXTS: Final = 100
_MAX_TEXT_BYTES: Final = 200
# Of the signs in a bucket: few lists come near it, unless a client looks for texts that share a bucket.
_LARGEST_SUM: Final = 10


class Encoding(Protocol):
    """Turns one field into columns.

    Attributes:
        largest: the largest absolute value in a column, whatever the field.
    """

    largest: ClassVar[float]

    def labels(self, name: str) -> tuple[str, ...]:
        """Return the labels of the k columns of an input of this name."""

    def expectation(self, value: object) -> str | None:
        """Return what a valid value is, for a value that is not; None for a valid one."""

    def encode(self, values: Sequence[Any]) -> NDArray[np.float64]:
        """Return the columns of n valid values, shape (n, k).

        Raises:
            ValueError, TypeError, OverflowError: a value is invalid; not every invalid one is noticed.
        """


def _is_number(value: object, limit: float) -> bool:
    # bool is an int in Python. The comparison refuses NaN, and has no trouble with huge integers.
    return isinstance(value, int | float) and not isinstance(value, bool) and -limit <= value <= limit


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_storable(value) and 1 <= len(value.encode()) <= _MAX_TEXT_BYTES


@dataclass(frozen=True, slots=True)
class Number:
    """(v - low) / (high - low) - minus, with v clipped to low..high and minus from 0 to 1; one column."""

    largest: ClassVar[float] = 1.0

    low: float
    high: float
    minus: float = 0.0

    def labels(self, name: str) -> tuple[str, ...]:
        """Return the input's own name."""
        return (name,)

    def expectation(self, value: object) -> str | None:
        """Accept finite numbers."""
        return None if _is_number(value, sys.float_info.max) else "a finite number"

    def encode(self, values: Sequence[Any]) -> NDArray[np.float64]:
        """See Encoding."""
        column = np.array(values, np.float64)
        np.clip(column, self.low, self.high, out=column)
        column -= self.low
        column /= self.high - self.low
        column -= self.minus
        return column[:, np.newaxis]


@dataclass(frozen=True, slots=True)
class Boolean:
    """1 - minus for true, 0 - minus for false, with minus from 0 to 1; one column."""

    largest: ClassVar[float] = 1.0

    minus: float = 0.0

    def labels(self, name: str) -> tuple[str, ...]:
        """Return the input's own name."""
        return (name,)

    def expectation(self, value: object) -> str | None:
        """Accept booleans."""
        return None if isinstance(value, bool) else "true or false"

    def encode(self, values: Sequence[Any]) -> NDArray[np.float64]:
        """See Encoding."""
        column = np.array(values, np.bool_).astype(np.float64)
        column -= self.minus
        return column[:, np.newaxis]


@lru_cache(maxsize=65_536)
def _angle(value: float, period: float) -> tuple[float, float]:
    # The math module, because NumPy's sine differs in the last bit from processor to processor.
    angle = 2 * math.pi * value / period
    return math.sin(angle), math.cos(angle)


@dataclass(frozen=True, slots=True)
class Cyclic:
    """sin(2 pi v / period) and cos(2 pi v / period); two columns."""

    largest: ClassVar[float] = 1.0

    period: float

    def labels(self, name: str) -> tuple[str, ...]:
        """Return NAME_sin and NAME_cos."""
        return f"{name}_sin", f"{name}_cos"

    def expectation(self, value: object) -> str | None:
        """Accept numbers of at most a million periods: beyond, rounding leaves nothing of the angle."""
        limit = 1e6 * self.period
        return None if _is_number(value, limit) else f"a number from {-limit:g} to {limit:g}"

    def encode(self, values: Sequence[Any]) -> NDArray[np.float64]:
        """See Encoding."""
        return np.array([_angle(value, self.period) for value in values], np.float64).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class Category:
    """1 in the column of the value, 0 in the others; one column a value. An unknown value is 0 in all columns."""

    largest: ClassVar[float] = 1.0

    values: tuple[str, ...]

    def labels(self, name: str) -> tuple[str, ...]:
        """Return NAME=VALUE for each value."""
        return tuple(f"{name}={value}" for value in self.values)

    def expectation(self, value: object) -> str | None:
        """Accept every text: new values come up before a definition knows them."""
        return None if _is_text(value) else f"a text of 1 to {_MAX_TEXT_BYTES} bytes"

    def encode(self, values: Sequence[Any]) -> NDArray[np.float64]:
        """See Encoding."""
        places = {value: place for place, value in enumerate(self.values)}
        # The last row is that of unknown values.
        rows = np.eye(len(self.values) + 1)[:, :-1]
        return rows[[places.get(value, -1) for value in values]]


@lru_cache(maxsize=65_536)
def _hash(text: str, buckets: int) -> tuple[int, float]:
    """Return the bucket of a text and its sign. Python's own hash differs from process to process."""
    number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
    return (number >> 1) % buckets, 1.0 if number & 1 else -1.0


@dataclass(frozen=True, slots=True)
class Hashed:
    """The sum of the signs of the texts in each bucket, clipped to -10..10; one column a bucket.

    Equal texts of a list count once.

    Weinberger, Dasgupta, Langford, Smola, Attenberg (2009), "Feature Hashing for Large Scale Multitask Learning": with
    signs, texts that share a bucket cancel out on average.
    """

    largest: ClassVar[float] = _LARGEST_SUM

    buckets: int

    def labels(self, name: str) -> tuple[str, ...]:
        """Return NAME#0, NAME#1 and so on."""
        return tuple(f"{name}#{bucket}" for bucket in range(self.buckets))

    def expectation(self, value: object) -> str | None:
        """Accept a text, or a list of texts."""
        texts = value if isinstance(value, list) else [value]
        if len(texts) <= MAX_TEXTS and all(map(_is_text, texts)):
            return None
        return f"a text of 1 to {_MAX_TEXT_BYTES} bytes, or a list of at most {MAX_TEXTS} of them"

    def encode(self, values: Sequence[Any]) -> NDArray[np.float64]:
        """See Encoding."""
        columns = np.zeros((len(values), self.buckets))
        for row, value in zip(columns, values, strict=True):
            texts: Collection[str] = (value,) if isinstance(value, str) else set(value)
            # Sums of whole numbers are exact, so their order does not matter.
            for bucket, sign in (_hash(text, self.buckets) for text in texts):
                row[bucket] += sign
        np.clip(columns, -_LARGEST_SUM, _LARGEST_SUM, out=columns)
        return columns
