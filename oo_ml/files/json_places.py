"""Positions in a JSON text: where the value at a place stands, so that a message can name its line."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Final

# A string, a bracket or separator, or a number or word.
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[][{},:]|[^][{},:"\s]+')


def find_position(text: str, place: Sequence[str | int]) -> int:
    """Return the index in `text` at which the value at `place` begins.

    If there is no such value, return that of the innermost value around it. If an object has a name twice, the last
    one counts, as for json.loads.

    Args:
        text: JSON that json.loads accepts.
        place: names of fields and indexes of lists, from the outside in.
    """
    found = 0
    for position, here in _walk(text):
        # A value comes after those around it. So a later one replaces one found before, and the values within that.
        if here == list(place[: len(here)]):
            found = position
    return found


def find_line(text: str, place: Sequence[str | int]) -> int:
    """Return the number of the line in which the value at `place` begins, from 1; see find_position."""
    return text.count("\n", 0, find_position(text, place)) + 1


def _walk(text: str) -> Iterator[tuple[int, list[str | int | None]]]:
    """Yield the position and the place of each value, each before the values in it. The list changes afterwards."""
    # The names and indexes on the way to the value at hand; None: in an object, before a name.
    here: list[str | int | None] = []
    for found in _TOKEN.finditer(text):
        match found[0]:
            case ":":
                pass
            case ",":
                here[-1] = here[-1] + 1 if isinstance(here[-1], int) else None
            case "]" | "}":
                here.pop()
            case name if here and here[-1] is None:
                here[-1] = json.loads(name)
            case value:
                yield found.start(), here
                if value in "[{":
                    here.append(0 if value == "[" else None)
