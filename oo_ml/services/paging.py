"""Pages of lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")
Cursor = TypeVar("Cursor")


@dataclass(frozen=True, slots=True)
class PageCommand:
    """Ask for at most `limit` rows of a list, after its first `offset`."""

    limit: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Found(Generic[Row, Cursor]):
    """A page of a list: its rows, in order, and the cursor of the next page; None on the last page."""

    rows: Sequence[Row]
    next_cursor: Cursor | None = None


def by_offset(rows: Sequence[Row], page: PageCommand) -> Found[Row, int]:
    """Return a page from the rows after its offset; the caller has read up to limit + 1 rows."""
    return Found(rows[: page.limit], page.offset + page.limit if len(rows) > page.limit else None)
