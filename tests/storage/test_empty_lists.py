"""Empty lists for `= ANY`: tests/statements.py finds them, and the storage never sends one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.storage import decision_log, prompt_versions
from oo_ml.storage.decision_log import Asked, LeftOut
from oo_ml.storage.postgres.binary_columns import Texts
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.user_ranges import ALL_USERS
from tests.sessions import writing
from tests.statements import broken, empty_lists

ANY = "SELECT 1 WHERE 'a' = ANY (CAST(%(names)s AS text[]))"


@pytest.mark.parametrize("empty", [[], (), np.array([]), Texts.of([])], ids=["list", "tuple", "array", "column"])
def test_empty_list(empty: object) -> None:
    """An empty list for `= ANY` is found in any of its forms, among several rows too."""
    assert empty_lists(ANY, {"names": empty, "other": "x"}) == ["names"]
    assert empty_lists(ANY, [{"names": ["a"]}, {"names": empty}]) == ["names"]


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        (ANY, {"names": ["a"], "other": ""}),
        (ANY, {"names": Texts.of(["a"])}),
        (ANY, {"names": Texts.of([""])}),
        ("SELECT unnest(%(names)s)", {"names": []}),
        ("SELECT 1 WHERE 'a' <> ALL (%(names)s)", {"names": []}),
    ],
)
def test_other_statements(statement: str, parameters: Mapping[str, Any]) -> None:
    """Lists with elements, and empty lists in other places, are allowed."""
    assert empty_lists(statement, parameters) == []


def test_watched_connections(db: Engine) -> None:
    """Empty lists are found in statements of SQLAlchemy and of the hot path."""
    with writing(db) as connection:
        connection.execute(text(ANY.replace("%(names)s", ":names")), {"names": []})
        Statement(ANY.replace("%(names)s", ":names")).run(connection, {"names": Texts.of([])})
    assert len(broken) == 2
    broken.clear()


def test_empty_arguments(db: Engine) -> None:
    """Queries for no prompt versions or no policies return empty results without a statement."""
    with writing(db) as connection:
        assert prompt_versions.read_evidence(connection, []) == {}
        assert list(decision_log.read_decisions(connection, ALL_USERS, Asked([]), versions=True)) == []
        assert decision_log.count_left_out(connection, ALL_USERS, Asked([])) == LeftOut(0, 0)
