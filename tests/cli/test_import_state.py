"""`oo-ml import-state`."""

from pathlib import Path

from oo_ml.domain.policies import EPSILON_GREEDY
from tests.commands import Done, oo_ml
from tests.conftest import Serve
from tests.file_service import write_state_file


def import_state(database_url: str, *arguments: object) -> Done:
    """Run the command on a database, with too much patience to be hurried by a busy machine."""
    return oo_ml(
        "import-state",
        *map(str, arguments),
        OO_ML_DATABASE_URL=database_url,
        OO_ML_DATABASE_CONNECT_TIMEOUT=20,
        OO_ML_REQUEST_TIMEOUT=20,
        OO_ML_STATEMENT_TIMEOUT=20,
    )


def test_import(database_url: str, serve: Serve, tmp_path: Path) -> None:
    """A dry run writes nothing, the import writes every state, and a second import changes nothing."""
    users = tmp_path / "users.txt"
    users.write_text("ada\r\nme@home.org\r\n", "utf-8")
    for name in ("ada", "me_home_org"):
        write_state_file(tmp_path, name)
        write_state_file(tmp_path, name, EPSILON_GREEDY)
    imported = "imported 4, unchanged 0, kept newer 0, bad 0, ambiguous 0, unknown 0, ignored 1\n"
    progress = "Importing: 2 of 4\nImporting: 4 of 4\n"
    rehearsed = Done(0, f"{imported}A dry run: nothing was written\n", progress)
    assert import_state(database_url, tmp_path, "--users", users, "--dry-run") == rehearsed
    assert import_state(database_url, tmp_path, "--users", users) == Done(0, imported, progress)
    unchanged = "imported 0, unchanged 4, kept newer 0, bad 0, ambiguous 0, unknown 0, ignored 1\n"
    assert import_state(database_url, tmp_path, "--users", users) == Done(0, unchanged, progress)
    assert serve().client.get("/stats/me@home.org").json()["pulls"] == 12


def test_refused_files(database_url: str, tmp_path: Path) -> None:
    """Each file that cannot be imported is a printable line on standard output; the rest is imported; exit code 1."""
    users = tmp_path / "users.txt"
    users.write_text("ada\na.b\na b\neve\n", "utf-8")
    for name in ("ada", "a_b", "stranger"):
        write_state_file(tmp_path, name)
    (tmp_path / "eve.json").write_text("{", "utf-8")
    (tmp_path / "\x1b[31m.json").touch()
    done = import_state(database_url, tmp_path, "--users", users)
    assert done.code == 1
    assert done.out.splitlines() == [
        r"bad: '\x1b[31m.json': not a name that the file-based service gives to a file",
        "bad: eve.json: Invalid JSON: EOF while parsing an object at line 1 column 1",
        "ambiguous: a_b.json: linucb-v1 of either of 'a.b', 'a b'",
        "unknown: stranger.json: linucb-v1 of the name 'stranger': no such id is listed",
        "imported 1, unchanged 0, kept newer 0, bad 2, ambiguous 1, unknown 1, ignored 1",
    ]


def test_newer_state(database_url: str, serve: Serve, tmp_path: Path) -> None:
    """A newer state is kept and reported, with exit code 0."""
    serve().client.post("/reward", json={"user_id": "ada", "tip_id": "t", "reward": 1, "features": {}})
    write_state_file(tmp_path, "ada")
    done = import_state(database_url, tmp_path)
    assert done.code == 0
    assert done.out.splitlines()[0] == "kept newer: ada.json: linucb-v1 of 'ada' has gone on here"


def test_empty_directory(database_url: str, tmp_path: Path) -> None:
    """A directory without states is an error."""
    error = f"error: {tmp_path} holds no state files (NAME.json)\n"
    assert import_state(database_url, tmp_path) == Done(1, "", error)


def test_database_without_migrations(empty_database_url: str, tmp_path: Path) -> None:
    """The error says what to do, after a report of the imports so far."""
    write_state_file(tmp_path, "ada")
    done = import_state(empty_database_url, tmp_path)
    assert done.code == 1
    assert done.out.startswith("Stopped before the end; the same command goes on from there. So far:\nimported 0,")
    assert done.err.splitlines()[-1].startswith("error: The database has not been migrated")
