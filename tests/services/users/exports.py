"""Rows of an export, and the start of the message that refuses an export."""

from typing import Any

SELF = "The export contradicts itself: linucb-v1, "


def find_row(document: dict[str, Any], table: str, **values: object) -> dict[str, Any]:
    """Return the row of a table that has these values."""
    [row] = [row for row in document[table] if all(row[name] == value for name, value in values.items())]
    return row  # type: ignore[no-any-return]
