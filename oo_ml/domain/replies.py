"""Search of a model's reply for the array of tips: after its reasoning, in fences, in prose, in an object.

A reply may be any text. What stands before the end of the reasoning is no answer, but a tag inside a JSON string is a
part of that string.
"""

import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from oo_ml.domain.tips import GeneratedTip, ReplyError, has_known_fields_only, read_tips

# Characters read in vain, summed over the places where JSON may begin: bounds the time of a hostile reply.
_MAX_SEARCHED: Final = 4_000_000
# Of more JSON values, the last ones are looked at.
_MAX_VALUES: Final = 100
# The repair of a longer text may take seconds.
MAX_REPAIRED_CHARACTERS: Final = 16_000

# Bounded lengths: a model that repeats itself would make the search quadratic, with the interpreter's lock held.
_REASONING: Final = r"(?:begin_of_)?[\w:]{0,40}?(?:think|thought|reason|reflect|analysis|scratchpad|monologue)\w{0,40}"
# <think>, [THINK], <|begin_of_thought|> and their like.
_OPENING: Final = re.compile(rf"\s*[<\[◁]\|?{_REASONING}\|?[>\]▷]", re.IGNORECASE)
# The end of reasoning, or the beginning of an array or object of objects.
_PLACE: Final = re.compile(
    rf"(?P<closing>[<\[◁]\|?(?:/|end_of_){_REASONING}\|?[>\]▷])|\[\s*\{{|\{{\s*\"",
    re.IGNORECASE,
)
_FIRST: Final = re.compile(r"\[\s*\{")
_LAST: Final = re.compile(r"\}\s*(?:,\s*)?\]")

Repair = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Found:
    """The JSON values after the reasoning, and the text after it."""

    values: list[object]
    rest: str


class _NotJsonError(ReplyError):
    """No JSON value begins here; `reached` is the index up to which it was read."""

    def __init__(self, message: str, reached: int) -> None:
        super().__init__(message)
        self.reached = reached


def _refuse_constant(name: str) -> NoReturn:
    raise ReplyError(f"The reply is not JSON: {name} is not a JSON number.")


# Not strict: a line break inside a string is taken for one.
_DECODER: Final = json.JSONDecoder(strict=False, parse_constant=_refuse_constant)


# ADR 24
def read_reply(text: str, n: int, *, is_cut: bool = False) -> tuple[GeneratedTip, ...]:
    """Return the first `n` tips of a reply; of several arrays, those of the last that has tips.

    Args:
        text: the reply.
        n: number of tips asked for.
        is_cut: the reply ended at a limit, so reasoning that has no end is all there is.

    Raises:
        ReplyError: no JSON in the reply is an array of {id?, content, rationale?}, alone or in an object.
    """
    found = _search(text, is_cut=is_cut)
    errors: list[ReplyError] = []
    for value in reversed(found.values):
        try:
            return read_tips(value, n)
        except ReplyError as error:
            errors.append(error)
    # An object that is no answer may come from an array that is not JSON.
    raise _explain(found.rest) or (errors or [ReplyError("The reply is not JSON.")])[0]


def read_broken_reply(text: str, n: int, repair: Repair) -> tuple[GeneratedTip, ...] | None:
    """Return the tips of a reply whose array is not quite JSON; None if `repair` makes no array of tips of it.

    An array without its end is not repaired: its last tip may be a part of what the model meant.
    """
    rest = _search(text).rest
    begin, end = _FIRST.search(rest), None
    for end in _LAST.finditer(rest):  # noqa: B007 - the last one
        pass
    if begin is None or end is None or not 0 < end.end() - begin.start() <= MAX_REPAIRED_CHARACTERS:
        return None
    try:
        value = repair(rest[begin.start() : end.end()])
        return read_tips(value, n) if has_known_fields_only(value) else None
    except (ValueError, RecursionError):
        return None


def strip_reasoning(text: str) -> str:
    """Return the part of a reply after its reasoning."""
    return _search(text).rest


def _search(text: str, *, is_cut: bool = False) -> _Found:
    text = text.lstrip("\ufeff").strip()
    try:
        return _Found([_decode(text, 0)[0]], text) if text else _Found([], text)
    except ReplyError:
        pass
    values: deque[object] = deque(maxlen=_MAX_VALUES)
    begin = 0
    for place, value in _walk(text):
        if place["closing"]:
            values.clear()
            begin = place.end()
        else:
            values.append(value)
    if is_cut and not begin and _OPENING.match(text):
        return _Found([], "")
    return _Found(list(values), text[begin:].strip())


def _walk(text: str) -> Iterator[tuple[re.Match[str], object]]:
    """Yield each end of reasoning, and each place where a JSON value begins, with the value."""
    position, searched = 0, 0
    while searched <= _MAX_SEARCHED and (place := _PLACE.search(text, position)):
        position = place.end() if place["closing"] else place.start() + 1
        if place["closing"]:
            yield place, None
            continue
        try:
            value, position = _decode(text, place.start(), whole=False)
        except _NotJsonError as error:
            # The json module counts the lines before a mistake, in about this time.
            searched += error.reached - place.start() + place.start() // 16
        else:
            yield place, value


def _decode(text: str, start: int, *, whole: bool = True) -> tuple[Any, int]:
    """Return the JSON value that begins at `start`, and its end; `whole`: nothing but space may follow."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise _NotJsonError("The reply is nested too deeply.", len(text)) from None
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno}, column {error.colno}"
        raise _NotJsonError(f"The reply is not JSON: {error.msg} {where}.", error.pos) from None
    except ReplyError as error:
        raise _NotJsonError(str(error), len(text)) from None
    except ValueError:  # CPython does not convert integers of more than 4,300 digits
        raise _NotJsonError("The reply holds a number that is too long.", len(text)) from None
    if whole and text[end:].strip():
        raise _NotJsonError("The reply has more than one JSON value.", end)
    return value, end


def _explain(rest: str) -> ReplyError | None:
    """Return the error at the first place where JSON may begin; None if there is JSON."""
    if not rest:
        return ReplyError("The reply is empty.")
    place = _PLACE.search(rest)
    try:
        _decode(rest, place.start() if place else 0, whole=place is None)
    except ReplyError as error:
        return error
    return None
