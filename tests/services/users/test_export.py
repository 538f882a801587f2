"""Exporting: every row and every column of a person, exactly, as they are at one moment."""

import json
import tempfile
import time
import tracemalloc
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, event, text

from oo_ml.api.users.schemas import ExportAnswer
from oo_ml.errors import ExportFileError
from oo_ml.execution import retry
from oo_ml.files.export_document import TABLES
from oo_ml.services.users.export import export
from oo_ml.storage import personal_data
from oo_ml.storage.postgres import json_rows
from oo_ml.storage.schema import migrate
from oo_ml.storage.schema import tables as declared
from tests.api.users.test_users import AWKWARD
from tests.services.decisions.test_batches import score, scores
from tests.services.sample_users import LEAST, detach_the_past, exported, live, write
from tests.services.scenario import NOON, decision, teach
from tests.superuser import tamper

HEAD = ["format", "format_version", "release", "schema", "exported_at", "user_id", "history_from"]
ORDER = {
    "feature_history": "position",
    "generations": "generation_id",
    "policy_state": "policy",
    "prompt_assignments": "user_id",
    "reward_ledger": "position",
    "tips": "tip_id, generation_id",
}


def stored(db: Engine, table: str, user_id: str) -> list[dict[str, Any]]:
    """Return a person's rows as PostgreSQL writes them: text that loses nothing, in the order that is promised."""
    with db.begin() as connection:
        rows = connection.scalars(
            text(f"SELECT to_jsonb(t)::text FROM oo_ml.{table} AS t WHERE user_id = :user ORDER BY {ORDER[table]}"),  # noqa: S608
            {"user": user_id},
        )
        return [json.loads(row) for row in rows]


@pytest.mark.parametrize("user_id", ["ada", "ben", "zoë"])
def test_every_row_and_every_column_is_there(db: Engine, user_id: str) -> None:
    """As PostgreSQL itself turns them into JSON, but for the ways of writing a time and bytes."""
    live(db)
    document = json.loads(exported(db, user_id))
    assert list(document)[:7] == HEAD
    assert (document["release"], document["schema"]) == (version("oo-ml"), migrate.head())
    assert (document["exported_at"], document["user_id"]) == ("2026-11-23T12:00:00.000000Z", user_id)
    assert list(document)[7:] == list(ORDER)
    assert ORDER.keys() == TABLES | {"prompt_assignments"}
    for table in ORDER:
        expected = stored(db, table, user_id)
        for row in expected:
            for name, value in row.items():
                if isinstance(value, str) and name.endswith(("_at", "_updated")):
                    row[name] = value.replace("+00:00", ".000000Z")
                if name.endswith("_digest") and value is not None:
                    row[name] = value.removeprefix("\\x")
        assert document[table] == expected
    assert ExportAnswer.model_validate(document).user_id == user_id


def test_every_type_of_column_is_known(db: Engine) -> None:
    """A table of a later release may not be forgotten: what can't be read back can't be moved."""
    with db.begin() as connection:
        found = personal_data.tables(connection)
    assert {one.name for one in found} == {
        table.name for table in declared.metadata.sorted_tables if "user_id" in table.columns
    }
    assert {type_ for one in found for type_ in one.columns.values()} <= json_rows.TYPES


def test_no_bit_is_lost(db: Engine) -> None:
    """Not the sign of a zero, not the least number there is, and no text is bent."""
    live(db)
    lines = exported(db, "zoë").decode()
    document = json.loads(lines)
    [state] = document["policy_state"]
    assert (
        np.array(state["b"]).tobytes()
        == np.array([-0.0, LEAST, -LEAST, 0.1 + 0.2, 1e-308, 2**53 + 2.0, -1 / 3]).tobytes()
    )
    assert str(state["cumulative_reward"]) == "-0.0"
    assert (state["a"][0][1], str(state["a"][2][3])) == (LEAST, "-0.0")
    assert state["pulls"] == 2**53
    assert '"user_id": "zoë"' in lines
    assert {tip["content"] for tip in document["tips"]} == {'a "quote"\n\x1b\u2028 and 🙂', "plain"}


def test_a_row_is_a_line(db: Engine) -> None:
    """So that documents can be searched and compared line by line."""
    live(db)
    content = exported(db, "ada").decode()
    rows = [line.rstrip(",") for line in content.split("\n") if line.startswith('{"user_id": "ada"')]
    document = json.loads(content)
    assert [json.loads(row) for row in rows] == [row for table in list(document)[7:] for row in document[table]]


def test_the_history_goes_on_past_retention(db: Engine) -> None:
    """Decisions of months that were detached are among the others, in the order in which they were made."""
    live(db)
    before = json.loads(exported(db, "ada"))
    detach_the_past(db)
    # Detached before the release that brought this column.
    tamper(db, "ALTER TABLE oo_ml.feature_history_1970_01 DROP COLUMN request_digest")
    with db.begin() as connection:
        score(connection, scores(1, 3, ["ada"]))
    after = json.loads(exported(db, "ada"))
    assert (before["history_from"], after["history_from"]) == (None, "1970-02-01T00:00:00.000000Z")
    assert after.keys() == before.keys()
    assert len(after["feature_history"]) == 10
    assert after["feature_history"][:7] == before["feature_history"]
    assert after["feature_history"][6]["decision_id"] == str(decision(7))


def test_it_is_all_of_one_moment(db: Engine) -> None:
    """A reward and tips that come while it is written are in none of the tables."""
    live(db)
    before = exported(db, "ada")

    interfered = False

    def interfere(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal interfered
        if "feature_history" in statement and "SELECT" in statement and not interfered:
            interfered = True
            teach(db, "ada")
            write(db, "ada", 5)

    event.listen(db, "after_cursor_execute", interfere)
    assert exported(db, "ada") == before
    assert exported(db, "ada") != before


def test_somebody_never_seen_has_empty_tables(db: Engine) -> None:
    """However strange the id; and each document is JSON."""
    for user_id in [*AWKWARD, '"', "\\", "ada\u2028", "\ufeff"]:
        document = json.loads(exported(db, user_id))
        assert document["user_id"] == user_id
        assert all(document[table] == [] for table in ORDER)


def test_each_of_several_people_has_a_document(db: Engine) -> None:
    """In the order asked for."""
    live(db)
    documents = retry.run(db, partial(export, exported_at=NOON), ["ada", "ben"], time.monotonic() + 20)
    for document, user_id in zip(documents, ("ada", "ben"), strict=True):
        with document:
            assert document.read() == exported(db, user_id)


def test_memory_does_not_grow_with_a_life(db: Engine) -> None:
    """3,000 decisions: the document goes to a file while it is written."""
    with db.begin() as connection:
        score(connection, scores(1, 3000, ["ada"]))
    service = partial(export, exported_at=NOON)
    with db.begin() as connection:
        tracemalloc.start()
        [document] = service(connection, ["ada"])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    with document:
        length = document.seek(0, 2)
    assert length > 3_000_000
    assert peak < length / 2


def test_a_full_disk_is_said_so(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is left open."""
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - closing it is what is tested
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda _: full)
    with pytest.raises(ExportFileError, match=r"^The export can't be written: No space left on device$"):
        exported(db, "ada")
    assert full.closed
