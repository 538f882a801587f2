"""What a prompt template may do with values: every function here is total over whatever JSON a client may have sent.

A missing field is null, null prints as nothing, and of two things that can't be compared neither is the larger.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from itertools import islice, takewhile
from types import MappingProxyType
from typing import Final, TypeVar

T = TypeVar("T")

MAX_ITEMS: Final = 50
MAX_STRING_CHARACTERS: Final = 1_000
MAX_NESTING: Final = 8
MAX_VALUE_CHARACTERS: Final = 20_000
MAX_TEXT_CHARACTERS: Final = 50_000
MAX_INTEGER_BITS: Final = 63
# What one rendering may read and write in its filters and comparisons: steps alone don't bound its time, since a step
# may work on a long text. Measured: a rendering that spends it all takes about 15 ms.
MAX_CHARACTERS_SPENT: Final = 2_000_000
_COMPOSITE_COST: Final = 2_000

_left: ContextVar[int] = ContextVar("_left", default=MAX_CHARACTERS_SPENT)


@contextmanager
def allowance() -> Iterator[None]:
    """Give one rendering its characters; when they are spent, filters give nothing and comparisons are false."""
    token = _left.set(MAX_CHARACTERS_SPENT)
    try:
        yield
    finally:
        _left.reset(token)


def _paid(function: Callable[..., T], nothing: T) -> Callable[..., T]:
    @wraps(function)
    def call(*values: object) -> T:
        if not _spend(*values):
            return nothing
        result = function(*values)
        _spend(result)
        return result

    return call


def _spend(*values: object) -> bool:
    left = _left.get() - sum(map(_cost, values))
    _left.set(left)
    return left > 0


def _cost(value: object) -> int:
    return len(value) if isinstance(value, str) else _COMPOSITE_COST if isinstance(value, list | dict) else 1


@dataclass(slots=True)
class _Budget:
    """How many more characters of one value may be copied."""

    characters: int = MAX_VALUE_CHARACTERS

    def is_left(self, _: object) -> bool:
        return self.characters > 0


def shortened(value: object) -> object:
    """Return a copy of JSON data that is small enough for a prompt.

    Lists and objects keep their first 50 items, texts their first 1,000 characters; eight levels are kept; after about
    20,000 characters the rest is left out. A number that neither JSON nor a bigint can hold becomes null.
    """
    return _copied(value, MAX_NESTING, _Budget())


def _copied(value: object, levels: int, budget: _Budget) -> object:
    match value:
        case str():
            return _copied_text(value, budget)
        case Mapping() if levels:
            items = takewhile(budget.is_left, islice(value.items(), MAX_ITEMS))
            return {_copied_text(str(key), budget): _copied(item, levels - 1, budget) for key, item in items}
        case list() | tuple() if levels:
            return [_copied(item, levels - 1, budget) for item in takewhile(budget.is_left, islice(value, MAX_ITEMS))]
    budget.characters -= 4  # about what a number takes
    return value if is_scalar(value) else None


def _copied_text(text: str, budget: _Budget) -> str:
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


def field(value: object, key: object) -> object:
    """Return an object's field or a list's item, null where there is none."""
    match value, key:
        case dict(), str():
            return value.get(key)
        case list(), int() if -len(value) <= key < len(value):
            return value[key]
    return None


def each(value: object) -> list[object]:
    """Return what a loop goes over: a list's items, an object's keys, nothing of anything else."""
    return list(islice(value, MAX_ITEMS)) if isinstance(value, list | dict) else []


def printed(value: object) -> str:
    """Return what `{{ value }}` puts into the prompt, as long as the allowance lasts."""
    return as_text(value) if _spend(value) else ""


def as_text(value: object) -> str:
    """Return what `{{ value }}` prints: text as it is, nothing for null, JSON for the rest."""
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
        return as_text(value)
    return as_text(as_text(separator).join(as_text(item) for item in value))


def _truncate(value: object, length: object = 80) -> str:
    text = as_text(value)
    limit = length if isinstance(length, int) and length > 0 else 1
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _order(left: object, right: object) -> int | None:
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


FILTERS: Final[Mapping[str, Callable[..., object]]] = MappingProxyType(
    {
        "capitalize": _paid(lambda value: as_text(value).capitalize(), ""),
        "default": _default,
        "first": lambda value: field(value, 0),
        "join": _paid(_join, ""),
        "last": lambda value: field(value, -1),
        "length": _length,
        "lower": _paid(lambda value: as_text(value).lower(), ""),
        "tojson": _paid(_tojson, ""),
        "trim": _paid(lambda value: as_text(value).strip(), ""),
        "truncate": _paid(_truncate, ""),
        "upper": _paid(lambda value: as_text(value).upper(), ""),
    }
)

TESTS: Final[Mapping[str, Callable[..., bool]]] = MappingProxyType(
    {
        "boolean": lambda value: isinstance(value, bool),
        "defined": lambda value: value is not None,
        "mapping": lambda value: isinstance(value, dict),
        "none": lambda value: value is None,
        "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
        "sequence": lambda value: isinstance(value, list),
        "string": lambda value: isinstance(value, str),
        "undefined": lambda value: value is None,
    }
)

# Named as Jinja's syntax tree names them.
OPERATORS: Final[Mapping[str, Callable[[object, object], bool]]] = MappingProxyType(
    {
        "eq": _paid(lambda left, right: left == right, nothing=False),
        "ne": _paid(lambda left, right: left != right, nothing=False),
        "lt": _paid(lambda left, right: _order(left, right) == -1, nothing=False),
        "lteq": _paid(lambda left, right: _order(left, right) in {-1, 0}, nothing=False),
        "gt": _paid(lambda left, right: _order(left, right) == 1, nothing=False),
        "gteq": _paid(lambda left, right: _order(left, right) in {0, 1}, nothing=False),
        "in": _paid(_is_in, nothing=False),
        "notin": _paid(lambda value, container: not _is_in(value, container), nothing=False),
    }
)
