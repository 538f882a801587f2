"""Lists that are read a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")
Cursor = TypeVar("Cursor")


@dataclass(frozen=True, slots=True)
class PageCommand:
    """Ask for at most `limit` rows of a list, without its first `offset`."""

    limit: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Found(Generic[Row, Cursor]):
    """Rows of a list, in order, and the cursor to the rows that follow; None: there are none."""

    rows: Sequence[Row]
    next_cursor: Cursor | None = None


def by_offset(rows: Sequence[Row], limit: int, offset: int) -> Found[Row, int]:
    """Return a page of a list, from its rows after `offset`, of which one more was read than fits the page."""
    return Found(rows[:limit], offset + limit if len(rows) > limit else None)
