"""Conversion of rows to JSON and back, to the last bit.

Timestamps are ISO 8601 in UTC, uuid is text, bytea lowercase hexadecimal, float8[] nested lists, jsonb itself.
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
    reader = _READERS.get(type_)
    if reader is None:
        raise ValueError(f"cannot read a column of type {type_} from JSON")
    return reader(value)


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


def _text(value: object) -> str:
    if not (isinstance(value, str) and is_storable(value)):
        raise ValueError("must be text without NUL and unpaired surrogates")
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - the value is at fault, not the caller
    return value


def _integer(value: object, *, bits: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise ValueError(f"must be an integer of {bits} bits")
    return value


def _number(value: object) -> float:
    # The comparison comes first: an integer may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ValueError("must be a finite number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("must be a finite number") from None


def _numbers(value: object) -> NDArray[np.float64]:
    if not isinstance(value, list):
        raise ValueError("must be a list of numbers")  # noqa: TRY004 - the value is at fault, not the caller
    try:
        return np.array(_nested(value), np.float64)
    except ValueError:
        raise ValueError("must be a list of finite numbers, or of such lists of one length") from None


def _nested(value: object) -> Any:  # noqa: ANN401 - lists of lists of ... numbers
    return [_nested(inner) for inner in value] if isinstance(value, list) else _number(value)


def _time(value: object) -> datetime:
    try:
        time = datetime.fromisoformat(_text(value))
        # PostgreSQL could store a time that lies beyond the year 9999 in UTC, but Python could not read it again.
        in_utc = None if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        in_utc = None
    if in_utc is None:
        raise ValueError("must be a time in ISO 8601 with its offset")
    return in_utc


def _uuid(value: object) -> UUID:
    try:
        return UUID(_text(value))
    except ValueError:
        raise ValueError("must be a UUID") from None


def _bytes(value: object) -> bytes:
    try:
        return bytes.fromhex(_text(value))
    except ValueError:
        raise ValueError("must be bytes in hexadecimal") from None


def _json(value: object) -> Jsonb:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        raise ValueError("must hold finite numbers and no unpaired surrogates") from None
    return Jsonb(value)


_READERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "text": _text,
    "character varying": _text,
    "boolean": _boolean,
    "smallint": partial(_integer, bits=16),
    "integer": partial(_integer, bits=32),
    "bigint": partial(_integer, bits=64),
    "double precision": _number,
    "double precision[]": _numbers,
    "timestamp with time zone": _time,
    "uuid": _uuid,
    "bytea": _bytes,
    "jsonb": _json,
}

# The types that `load` reads.
TYPES: Final = _READERS.keys()
