"""`oo-ml export` and `oo-ml replay`, as they are typed."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.commands import Done, oo_ml
from tests.services.sample_users import exported, live, without_positions

REPLAYED = "feature_history 7, generations 2, policy_state 2, prompt_assignments 1, reward_ledger 10, tips 2\n"


def on(database_url: str, *words: str, stdin: str = "") -> Done:
    """Run a command on a database, with too much patience to be hurried by a busy machine."""
    return oo_ml(
        *words,
        stdin=stdin,
        OO_ML_DATABASE_URL=database_url,
        OO_ML_DATABASE_CONNECT_TIMEOUT=20,
        OO_ML_REQUEST_TIMEOUT=20,
        OO_ML_STATEMENT_TIMEOUT=20,
    )


def test_a_person_moves_through_a_pipe(
    db: Engine, other_db: Engine, database_url: str, other_database_url: str
) -> None:
    """From standard output to standard input: the same document comes out there; once more, nothing changes."""
    live(db)
    done = on(database_url, "export", "--user", "ada")
    assert (done.code, done.err) == (0, "")
    moved = on(other_database_url, "replay", "-", stdin=done.out)
    assert moved == Done(0, f"replayed: {REPLAYED}", "")
    assert without_positions(exported(other_db, "ada")) == without_positions(done.out.encode()) | {
        "exported_at": "2026-11-23T12:00:00.000000Z"
    }
    assert on(other_database_url, "replay", "-", stdin=done.out) == Done(0, f"unchanged: {REPLAYED}", "")


def test_a_person_moves_in_a_file(db: Engine, database_url: str, other_database_url: str, tmp_path: Path) -> None:
    """Which only its owner can read, and which is replaced as a whole."""
    live(db)
    file = tmp_path / "ada.json"
    file.write_text("what was there before", "utf-8")
    file.chmod(0o644)
    assert on(database_url, "export", "--user", "ada", "--output", str(file)) == Done(0, "", "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["ada.json"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text("utf-8"))["user_id"] == "ada"
    assert on(other_database_url, "replay", str(file)) == Done(0, f"replayed: {REPLAYED}", "")


def test_a_refusal_is_one_line(db: Engine, database_url: str, other_database_url: str, tmp_path: Path) -> None:
    """Exit code 1, and nothing on standard output."""
    live(db)
    document = json.loads(exported(db, "ada"))
    document["policy_state"][0]["version"] = 9
    file = tmp_path / "ada.json"
    file.write_text(json.dumps(document), "utf-8")
    known = "error: 'ada' is known here already; erase them first\n"
    assert on(database_url, "replay", str(file)) == Done(1, "", known)
    done = on(other_database_url, "replay", str(file))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: The export contradicts itself: egreedy-v1, epoch 0, version 9: expected ")
    assert len(done.err.splitlines()) == 1
    file.write_text("{", "utf-8")
    expected = "error: line 1: this is not JSON: expected a name in quotes\n"
    assert on(other_database_url, "replay", str(file)) == Done(1, "", expected)


@pytest.mark.parametrize("user", ["..", "two\nlines", "\udcff", ""])
def test_a_name_that_nobody_can_have_is_refused_at_the_door(user: str) -> None:
    """Without a database."""
    done = oo_ml("export", "--user", user)
    assert done.code == 2
    assert "the service accepts no such id" in done.err


def test_a_file_that_cannot_be_written_is_one_line(db: Engine, database_url: str, tmp_path: Path) -> None:
    """It names the file and the reason."""
    live(db)
    missing = tmp_path / "missing" / "ada.json"
    done = on(database_url, "export", "--user", "ada", "--output", str(missing))
    assert done == Done(1, "", f"error: {missing} can't be written: No such file or directory\n")


def test_a_database_that_is_not_migrated_is_said_so(empty_database_url: str, tmp_path: Path) -> None:
    """And what to do about it."""
    message = "error: The database has not been migrated to this release: run `oo-ml db upgrade`\n"
    output = tmp_path / "ada.json"
    done = on(empty_database_url, "export", "--user", "ada", "--output", str(output))
    assert done == Done(1, "", message)
    assert list(tmp_path.iterdir()) == []
