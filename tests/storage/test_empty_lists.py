"""Lists that are passed to `= ANY`: tests/statements.py sees an empty one, and the storage never sends one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.storage import decision_log, prompts
from oo_ml.storage.decision_log import LeftOut
from oo_ml.storage.postgres.binary_columns import Texts
from oo_ml.storage.postgres.statements import Statement
from oo_ml.storage.user_ranges import ALL_USERS
from tests.statements import broken, empty_lists

ANY = "SELECT 1 WHERE 'a' = ANY (CAST(%(names)s AS text[]))"


@pytest.mark.parametrize("empty", [[], (), np.array([]), Texts.of([])], ids=["list", "tuple", "array", "column"])
def test_empty_list(empty: object) -> None:
    """It is named, in any of its forms, wherever it stands among several rows."""
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
    """A list with elements, and an empty one in any other place, are fine."""
    assert empty_lists(statement, parameters) == []


def test_every_way_of_sending_is_watched(db: Engine) -> None:
    """SQLAlchemy's own, and that of the hot path; this test would fail if it left them in the list."""
    with db.begin() as connection:
        connection.execute(text(ANY.replace("%(names)s", ":names")), {"names": []})
        Statement(ANY.replace("%(names)s", ":names")).run(connection, {"names": Texts.of([])})
    assert len(broken) == 2
    broken.clear()


def test_nothing_is_asked_about_no_versions_and_no_policies(db: Engine) -> None:
    """The answer needs no database."""
    with db.begin() as connection:
        assert prompts.read_evidence(connection, []) == {}
        assert list(decision_log.read_decisions(connection, ALL_USERS, [], None, versions=True)) == []
        assert decision_log.count_left_out(connection, ALL_USERS, [], None) == LeftOut(0, 0)
