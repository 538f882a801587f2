"""Conversion of rows to JSON and back, to the last bit.

Timestamps are ISO 8601 in UTC, uuid is text, bytea lowercase hexadecimal, arrays lists, jsonb itself.
"""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from oo_ml.domain.identifiers import is_storable


def dump(row: Mapping[str, Any], *, sort_keys: bool = False) -> str:
    """Return a row as one line of JSON."""
    return json.dumps(row, default=_to_json, ensure_ascii=False, allow_nan=False, sort_keys=sort_keys)


def load(value: Any, type_: str) -> Any:  # noqa: ANN401 - JSON in, a column's value out
    """Return the value of a column of `type_` for which `dump` has written `value`.

    Raises:
        ValueError: A column of this type cannot hold the value.
    """
    if value is None:
        return None
    if type_ not in _READERS:
        raise ValueError(f"cannot read a column of type {type_} from JSON")
    read, expected = _READERS[type_]
    try:
        return read(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"must {expected}") from None


def _to_json(value: object) -> Any:  # noqa: ANN401 - JSON
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case UUID():
            return str(value)
        case bytes():
            return value.hex()
        case np.ndarray():
            return value.tolist()
        case Jsonb():
            return value.obj
    raise TypeError(f"cannot write a value of type {type(value).__name__} as JSON")


# Each of these raises TypeError, ValueError or OverflowError if a column of its type can't hold the value.


def _text(value: object) -> str:
    if not (isinstance(value, str) and is_storable(value)):
        raise ValueError
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _integer(value: object, *, bits: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise ValueError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _numbers(value: object) -> NDArray[np.float64]:
    if not isinstance(value, list):
        raise TypeError
    return np.array(_nested(value), np.float64)


def _nested(value: object) -> Any:  # noqa: ANN401 - lists of lists of ... numbers
    return [_nested(inner) for inner in value] if isinstance(value, list) else _number(value)


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError
    return [_text(inner) for inner in value]


def _time(value: object) -> datetime:
    time = datetime.fromisoformat(_text(value))
    if time.tzinfo is None:
        raise ValueError
    # PostgreSQL could store a time that lies beyond the year 9999 in UTC, but Python could not read it again.
    return time.astimezone(UTC)


def _json(value: object) -> Jsonb:
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return Jsonb(value)


# By the type of a column: the function that reads a value from JSON, and what the value must be.
_READERS: Final[Mapping[str, tuple[Callable[[object], Any], str]]] = {
    "text": (_text, "be text without NUL and unpaired surrogates"),
    "character varying": (_text, "be text without NUL and unpaired surrogates"),
    "text[]": (_texts, "be a list of texts without NUL and unpaired surrogates"),
    "boolean": (_boolean, "be true or false"),
    **{
        name: (partial(_integer, bits=bits), f"be an integer of {bits} bits")
        for name, bits in (("smallint", 16), ("integer", 32), ("bigint", 64))
    },
    "double precision": (_number, "be a finite number"),
    "double precision[]": (_numbers, "be a list of finite numbers, or of such lists of one length"),
    "timestamp with time zone": (_time, "be a time in ISO 8601 with its offset"),
    "uuid": (lambda value: UUID(_text(value)), "be a UUID"),
    "bytea": (lambda value: bytes.fromhex(_text(value)), "be bytes in hexadecimal"),
    "jsonb": (_json, "hold finite numbers and no unpaired surrogates"),
}

# The types that `load` reads.
TYPES: Final = _READERS.keys()
