"""A check of every statement that a test sends: no `= ANY (list)` gets an empty list. pyproject.toml loads it.

An empty list names no shard: a database that is distributed by user_id could not route the statement.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pytest
from sqlalchemy import Engine, event

from oo_ml.storage.postgres.binary_columns import Column

_ANY: Final = re.compile(r"=\s*ANY\s*\(", re.IGNORECASE)
# Statements of the test, from any thread.
broken: Final[list[str]] = []


def empty_lists(statement: str, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the empty lists of a statement with `= ANY`."""
    if not _ANY.search(statement):
        return []
    rows = [parameters] if isinstance(parameters, Mapping) else parameters
    return [name for row in rows for name, value in row.items() if _is_empty(value)]


@pytest.fixture(autouse=True)
def no_empty_lists() -> Iterator[None]:
    """Fail a test that has sent an empty list to `= ANY`."""
    broken.clear()
    yield
    assert not broken, "statements with = ANY got an empty list"


def _is_empty(value: object) -> bool:
    if isinstance(value, Column):
        return value == type(value)._of(())  # noqa: SLF001 - each kind of list has this one
    return isinstance(value, list | tuple | np.ndarray) and len(value) == 0


@event.listens_for(Engine, "before_cursor_execute")
def _watch(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:  # noqa: ANN401
    if empty_lists(statement, parameters):
        broken.append(statement)
