"""`oo-ml export` and `oo-ml replay`."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.commands import Done, oo_ml, oo_ml_process
from tests.services.sample_users import create_users, dump_export, export_user, parse_export, parse_without_positions

REPLAYED = "feature_history 7, generations 2, policy_state 2, prompt_assignments 1, reward_ledger 10, tips 2\n"


# A test must not fail because the machine is busy.
PATIENT: dict[str, Any] = {
    "OO_ML_DATABASE_CONNECT_TIMEOUT": 20,
    "OO_ML_REQUEST_TIMEOUT": 20,
    "OO_ML_STATEMENT_TIMEOUT": 20,
}


def run_on(database_url: str, *words: str, stdin: str = "") -> Done:
    """Run a command on a database."""
    return oo_ml(*words, stdin=stdin, OO_ML_DATABASE_URL=database_url, **PATIENT)


def test_pipe(db: Engine, other_db: Engine, database_url: str, other_database_url: str) -> None:
    """A user moves from standard output to standard input; the second replay changes nothing."""
    create_users(db)
    done = oo_ml_process("export", "--user", "ada", OO_ML_DATABASE_URL=database_url, **PATIENT)
    assert (done.code, done.err) == (0, "")
    moved = oo_ml_process("replay", "-", stdin=done.out, OO_ML_DATABASE_URL=other_database_url, **PATIENT)
    assert moved == Done(0, f"replayed: {REPLAYED}", "")
    assert parse_without_positions(export_user(other_db, "ada")) == parse_without_positions(done.out.encode()) | {
        "exported_at": "2026-11-23T12:00:00.000000Z"
    }
    assert run_on(other_database_url, "replay", "-", stdin=done.out) == Done(0, f"unchanged: {REPLAYED}", "")


def test_file(db: Engine, database_url: str, other_database_url: str, tmp_path: Path) -> None:
    """Only its owner can read the file, and an existing file is replaced as a whole."""
    create_users(db)
    file = tmp_path / "ada.jsonl"
    file.write_text("what was there before", "utf-8")
    file.chmod(0o644)
    assert run_on(database_url, "export", "--user", "ada", "--output", str(file)) == Done(0, "", "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["ada.jsonl"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert parse_export(file.read_bytes())["user_id"] == "ada"
    assert run_on(other_database_url, "replay", str(file)) == Done(0, f"replayed: {REPLAYED}", "")


def test_refusals(db: Engine, database_url: str, other_database_url: str, tmp_path: Path) -> None:
    """A refusal is one line on standard error, exit code 1, and nothing on standard output."""
    create_users(db)
    document = parse_export(export_user(db, "ada"))
    document["policy_state"][0]["version"] = 9
    file = tmp_path / "ada.jsonl"
    file.write_bytes(dump_export(document))
    known = "error: 'ada' is known here, but not as exported; erase the user first\n"
    assert run_on(database_url, "replay", str(file)) == Done(1, "", known)
    done = run_on(other_database_url, "replay", str(file))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: The export contradicts itself: egreedy-v1, epoch 0, version 9: expected ")
    assert len(done.err.splitlines()) == 1
    file.write_bytes(export_user(db, "ada")[:-5])
    expected = "error: line 26: not JSON in UTF-8; export the user again\n"
    assert run_on(other_database_url, "replay", str(file)) == Done(1, "", expected)


@pytest.mark.parametrize("user", ["..", "two\nlines", "\udcff", ""])
def test_ids_that_no_user_has(user: str) -> None:
    """An id that the service accepts for no user is refused before any connection to a database."""
    done = oo_ml("export", "--user", user)
    assert done.code == 2
    assert "the service accepts no such id" in done.err


def test_unwritable_file(db: Engine, database_url: str, tmp_path: Path) -> None:
    """The error names the file and the reason."""
    create_users(db)
    missing = tmp_path / "missing" / "ada.jsonl"
    done = run_on(database_url, "export", "--user", "ada", "--output", str(missing))
    assert done == Done(1, "", f"error: Cannot write {missing}: No such file or directory\n")


def test_database_without_migrations(empty_database_url: str, tmp_path: Path) -> None:
    """The error says what to do, and no file is left."""
    message = "error: The database has not been migrated to this release: run `oo-ml db upgrade`\n"
    output = tmp_path / "ada.jsonl"
    done = run_on(empty_database_url, "export", "--user", "ada", "--output", str(output))
    assert done == Done(1, "", message)
    assert list(tmp_path.iterdir()) == []
