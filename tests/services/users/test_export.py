"""Export: every row and every column of a user, exactly, all of one moment."""

import json
import tempfile
import time
import tracemalloc
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, event

from oo_ml.errors import ExportFileError
from oo_ml.execution import retry
from oo_ml.services.users.export import export
from oo_ml.storage import personal_data
from oo_ml.storage.postgres import json_rows
from oo_ml.storage.schema import all_tables as declared
from oo_ml.storage.schema import revisions
from tests.api.users.test_users import AWKWARD
from tests.services.decisions.batches import score, scores
from tests.services.sample_users import (
    LEAST,
    TABLES,
    create_users,
    detach_the_past,
    export_user,
    insert_generations,
    parse_export,
)
from tests.services.scenario import NOON, decision, teach
from tests.services.users.stored_rows import ORDER, read_rows
from tests.sessions import writing
from tests.superuser import tamper

HEAD = ["format", "format_version", "release", "schema", "exported_at", "user_id", "history_from"]


@pytest.mark.parametrize("user_id", ["ada", "ben", "zoë"])
def test_rows_and_columns(db: Engine, user_id: str) -> None:
    """Every row has every column, as PostgreSQL itself writes JSON, except for the notation of times and bytes."""
    create_users(db)
    document = parse_export(export_user(db, user_id))
    assert list(document)[:7] == HEAD
    assert (document["format"], document["format_version"]) == ("oo-ml export", 2)
    assert (document["release"], document["schema"]) == (version("oo-ml"), revisions.head())
    assert (document["exported_at"], document["user_id"]) == ("2026-11-23T12:00:00.000000Z", user_id)
    assert list(document)[7:] == list(ORDER) == list(TABLES)
    for table in ORDER:
        expected = read_rows(db, table, user_id)
        for row in expected:
            for name, value in row.items():
                if isinstance(value, str) and name.endswith(("_at", "_updated")):
                    row[name] = value.replace("+00:00", ".000000Z")
                if name.endswith("_digest") and value is not None:
                    row[name] = value.removeprefix("\\x")
        assert document[table] == expected


def test_types_of_columns(db: Engine) -> None:
    """Every table with a user_id is exported, and a replay can read back every type of column in it."""
    with writing(db) as connection:
        found = personal_data.find_tables(connection)
    assert {one.name for one in found} == {
        table.name for table in declared.metadata.sorted_tables if "user_id" in table.columns
    }
    assert {type_ for one in found for type_ in one.columns.values()} <= json_rows.TYPES


def test_exactness(db: Engine) -> None:
    """Numbers keep every bit, the sign of a zero too, and text keeps every character."""
    create_users(db)
    content = export_user(db, "zoë")
    document = parse_export(content)
    [state] = document["policy_state"]
    assert (
        np.array(state["b"]).tobytes()
        == np.array([-0.0, LEAST, -LEAST, 0.1 + 0.2, 1e-308, 2**53 + 2.0, -1 / 3]).tobytes()
    )
    assert str(state["cumulative_reward"]) == "-0.0"
    assert (state["a"][0][1], str(state["a"][2][3])) == (LEAST, "-0.0")
    assert state["pulls"] == 2**53
    assert '"user_id": "zoë"' in content.decode()
    assert {tip["content"] for tip in document["tips"]} == {'a "quote"\n\x1b\u2028 and 🙂', "plain"}


def test_detached_months(db: Engine) -> None:
    """Decisions of detached months are exported with the others, in the order in which they were made."""
    create_users(db)
    before = parse_export(export_user(db, "ada"))
    detach_the_past(db)
    # Detached before the release that brought this column.
    tamper(db, "ALTER TABLE oo_ml.feature_history_1970_01 DROP COLUMN request_digest")
    with writing(db) as connection:
        score(connection, scores(1, 3, ["ada"]))
    after = parse_export(export_user(db, "ada"))
    assert (before["history_from"], after["history_from"]) == (None, "1970-02-01T00:00:00.000000Z")
    assert after.keys() == before.keys()
    assert len(after["feature_history"]) == 10
    assert after["feature_history"][:7] == before["feature_history"]
    assert after["feature_history"][6]["decision_id"] == str(decision(7))


def test_snapshot(db: Engine) -> None:
    """A reward and tips that are committed during the export are in none of its tables."""
    create_users(db)
    before = export_user(db, "ada")

    interfered = False

    def interfere(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal interfered
        if "feature_history" in statement and "SELECT" in statement and not interfered:
            interfered = True
            teach(db, "ada")
            insert_generations(db, "ada", 5)

    event.listen(db, "after_cursor_execute", interfere)
    assert export_user(db, "ada") == before
    assert export_user(db, "ada") != before


def test_unknown_users(db: Engine) -> None:
    """The export of a user without rows is a header and a last line, whatever characters the id has."""
    for user_id in [*AWKWARD, '"', "\\", "ada\u2028", "\ufeff"]:
        header, end = map(json.loads, export_user(db, user_id).splitlines())
        assert header["user_id"] == user_id
        assert end == {"complete": True, "rows": 0}


def test_several_users(db: Engine) -> None:
    """Each user has an export of their own, in the order asked for."""
    create_users(db)
    files = retry.run(db, partial(export, exported_at=NOON), ["ada", "ben"], time.monotonic() + 20)
    for file, user_id in zip(files, ("ada", "ben"), strict=True):
        with file:
            assert file.read() == export_user(db, user_id)


def test_memory(db: Engine) -> None:
    """The export of 3,000 decisions is written to a file while it is read, and never held in memory."""
    with writing(db) as connection:
        score(connection, scores(1, 3000, ["ada"]))
    service = partial(export, exported_at=NOON)
    with writing(db) as connection:
        tracemalloc.start()
        [file] = service(connection, ["ada"])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    with file:
        length = file.seek(0, 2)
    assert length > 3_000_000
    assert peak < length / 2


def test_full_disk(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the temporary file cannot be written, the error names the reason and the file is closed."""
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115 - closing it is what is tested
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda _: full)
    with pytest.raises(ExportFileError, match=r"^Cannot write the export: No space left on device$"):
        export_user(db, "ada")
    assert full.closed
