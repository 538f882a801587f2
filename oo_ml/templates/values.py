"""Functions of prompt templates on values. Every one is total over all JSON that a client can send.

A missing field is null, null prints as nothing, and of two values that cannot be compared neither is larger.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from itertools import islice, takewhile
from typing import Final, TypeVar

T = TypeVar("T")

MAX_ITEMS: Final = 50
MAX_STRING_CHARACTERS: Final = 1_000
MAX_NESTING: Final = 8
MAX_VALUE_CHARACTERS: Final = 20_000
MAX_TEXT_CHARACTERS: Final = 50_000
MAX_INTEGER_BITS: Final = 63
# The characters that one rendering may read and write in filters and comparisons. Steps alone do not bound its time,
# because a step may work on a long text. Measured: a rendering that spends it all takes about 15 ms.
MAX_CHARACTERS_SPENT: Final = 2_000_000
_COMPOSITE_COST: Final = 2_000

_left: ContextVar[int] = ContextVar("_left", default=MAX_CHARACTERS_SPENT)


@contextmanager
def grant_allowance() -> Iterator[None]:
    """Give one rendering its characters; when they are spent, filters give nothing and comparisons are false."""
    token = _left.set(MAX_CHARACTERS_SPENT)
    try:
        yield
    finally:
        _left.reset(token)


def _charge(function: Callable[..., T], nothing: T) -> Callable[..., T]:
    @wraps(function)
    def call(*values: object) -> T:
        if not _spend(*values):
            return nothing
        result = function(*values)
        _spend(result)
        return result

    return call


def _spend(*values: object) -> bool:
    left = _left.get() - sum(map(_measure_cost, values))
    _left.set(left)
    return left > 0


def _measure_cost(value: object) -> int:
    return len(value) if isinstance(value, str) else _COMPOSITE_COST if isinstance(value, list | dict) else 1


@dataclass(slots=True)
class _Budget:
    """The number of characters of one value that may still be copied."""

    characters: int = MAX_VALUE_CHARACTERS

    def is_left(self, _: object) -> bool:
        return self.characters > 0


def shorten(value: object) -> object:
    """Return a copy of JSON data that is small enough for a prompt.

    Lists and objects keep their first 50 items, and texts their first 1,000 characters. Levels below the eighth are
    left out, and data after about 20,000 characters. A number that neither JSON nor a bigint can hold becomes null.
    """
    return _copy(value, MAX_NESTING, _Budget())


def _copy(value: object, levels: int, budget: _Budget) -> object:
    match value:
        case str():
            return _copy_text(value, budget)
        case Mapping() if levels:
            items = takewhile(budget.is_left, islice(value.items(), MAX_ITEMS))
            return {_copy_text(str(key), budget): _copy(item, levels - 1, budget) for key, item in items}
        case list() | tuple() if levels:
            return [_copy(item, levels - 1, budget) for item in takewhile(budget.is_left, islice(value, MAX_ITEMS))]
    budget.characters -= 4  # about what a number takes
    return value if is_scalar(value) else None


def _copy_text(text: str, budget: _Budget) -> str:
    text = text[:MAX_STRING_CHARACTERS]
    budget.characters -= len(text)
    return text


def is_scalar(value: object) -> bool:
    """Tell whether `value` is null, a boolean, a finite number of at most 64 bits, or text."""
    match value:
        case None | str():
            return True
        case int():
            return value.bit_length() <= MAX_INTEGER_BITS
        case float():
            return math.isfinite(value)
    return False


def get_field(value: object, key: object) -> object:
    """Return an object's field or a list's item, null where there is none."""
    match value, key:
        case dict(), str():
            return value.get(key)
        case list(), int() if -len(value) <= key < len(value):
            return value[key]
    return None


def iterate(value: object) -> list[object]:
    """Return the items of a loop: those of a list, the keys of an object, none of any other value."""
    return list(islice(value, MAX_ITEMS)) if isinstance(value, list | dict) else []


def print_value(value: object) -> str:
    """Return the text of `{{ value }}` in the prompt, nothing after the allowance is spent."""
    return to_text(value) if _spend(value) else ""


def to_text(value: object) -> str:
    """Return text unchanged, nothing for null, and JSON for any other value."""
    if value is None:
        return ""
    return value[:MAX_TEXT_CHARACTERS] if isinstance(value, str) else _tojson(value)


def _tojson(value: object) -> str:
    """Return JSON on one line, with < and > escaped: data can't close a <tag> that the template put around it."""
    text = json.dumps(value, ensure_ascii=False, default=lambda _: None)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")[:MAX_TEXT_CHARACTERS]


def _default(value: object, fallback: object = "") -> object:
    return fallback if value is None else value


def _length(value: object) -> int:
    return len(value) if isinstance(value, str | list | dict) else 0


def _join(value: object, separator: object = ", ") -> str:
    if not isinstance(value, list):
        return to_text(value)
    return to_text(to_text(separator).join(to_text(item) for item in value))


def _truncate(value: object, length: object = 80) -> str:
    text = to_text(value)
    limit = length if isinstance(length, int) and length > 0 else 1
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _compare(left: object, right: object) -> int | None:
    """Return -1, 0 or 1 as left is less than, equal to or greater than right; None unless both are numbers or texts."""
    match left, right:
        case (bool(), _) | (_, bool()):
            return None
        case str() as a, str() as b:
            return (a > b) - (a < b)
        case (int() | float()) as x, (int() | float()) as y:
            return (x > y) - (x < y)
    return None


def _is_in(value: object, container: object) -> bool:
    match container:
        case list() | tuple():
            return value in container
        case dict() | str():
            return isinstance(value, str) and value in container
    return False


FILTERS: Final[Mapping[str, Callable[..., object]]] = {
    "capitalize": _charge(lambda value: to_text(value).capitalize(), ""),
    "default": _default,
    "first": lambda value: get_field(value, 0),
    "join": _charge(_join, ""),
    "last": lambda value: get_field(value, -1),
    "length": _length,
    "lower": _charge(lambda value: to_text(value).lower(), ""),
    "tojson": _charge(_tojson, ""),
    "trim": _charge(lambda value: to_text(value).strip(), ""),
    "truncate": _charge(_truncate, ""),
    "upper": _charge(lambda value: to_text(value).upper(), ""),
}

TESTS: Final[Mapping[str, Callable[..., bool]]] = {
    "boolean": lambda value: isinstance(value, bool),
    "defined": lambda value: value is not None,
    "mapping": lambda value: isinstance(value, dict),
    "none": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "sequence": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "undefined": lambda value: value is None,
}

# Named as Jinja's syntax tree names them.
OPERATORS: Final[Mapping[str, Callable[[object, object], bool]]] = {
    "eq": _charge(lambda left, right: left == right, nothing=False),
    "ne": _charge(lambda left, right: left != right, nothing=False),
    "lt": _charge(lambda left, right: _compare(left, right) == -1, nothing=False),
    "lteq": _charge(lambda left, right: _compare(left, right) in {-1, 0}, nothing=False),
    "gt": _charge(lambda left, right: _compare(left, right) == 1, nothing=False),
    "gteq": _charge(lambda left, right: _compare(left, right) in {0, 1}, nothing=False),
    "in": _charge(_is_in, nothing=False),
    "notin": _charge(lambda value, container: not _is_in(value, container), nothing=False),
}
