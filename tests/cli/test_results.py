"""Tables and JSON of commands, on a terminal and in a pipe."""

import json
import os
import pty
import re
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oo_ml.cli.results import Column, print_json, print_records
from oo_ml.settings import Settings
from oo_ml.storage.schema import revisions
from tests.cli.test_import_state import import_state
from tests.commands import command_line, environment, oo_ml
from tests.file_service import write_state_file
from tests.waiting import PATIENCE

FRAMES = re.compile("[\u2500-\u257f]")
ESCAPE = "\x1b["
COLUMNS = (Column("name", lambda one: one["name"]), Column("size", lambda one: str(one["size"]), is_number=True))


def on_a_terminal(*words: str) -> tuple[int, str]:
    """Return the exit code and the output of a command whose outputs are a terminal."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(  # noqa: S603 - our own program
        command_line(*words), env=environment(TERM="xterm"), cwd="/", stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    said = b""
    # Linux reports the end of a terminal as an error.
    with os.fdopen(controller, "rb", buffering=0) as output, suppress(OSError):
        while read := output.read(65536):
            said += read
    return process.wait(PATIENCE), said.decode()


def test_table_on_a_terminal() -> None:
    """A table on a terminal has a frame."""
    code, said = on_a_terminal("settings")
    assert code == 0
    assert FRAMES.search(said)
    assert "\t" not in said
    assert all(Settings.variable(name) in said for name in Settings.model_fields)


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["verify", "--help"], 0), (["verfy"], 2)], ids=str)
def test_help_and_usage_errors(words: list[str], code: int) -> None:
    """Help and usage errors have a frame on a terminal, and are plain text in a pipe."""
    ended, said = on_a_terminal(*words)
    assert ended == code
    assert FRAMES.search(said)
    done = oo_ml(*words)
    assert done.code == code
    assert not FRAMES.search(done.out + done.err)
    assert ESCAPE not in done.out + done.err


def test_lines_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """A line has the cells of a record, separated by tabs, whatever they contain; the headings come first."""
    records = [{"name": "x" * 300, "size": 2}, {"name": "a\tb\n\x1b[31m", "size": 10}]
    print_records(records, COLUMNS)
    assert capsys.readouterr().out.splitlines() == [
        "name\tsize",
        f"{'x' * 300}\t2",
        "'a\\tb\\n\\x1b[31m'\t10",
    ]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """A list is an array of objects on one line; times are UTC; a number that JSON lacks is an error."""
    print_records([{"name": "a\nb", "size": 2}], COLUMNS, as_json=True)
    assert capsys.readouterr().out == '[{"name": "a\\nb", "size": 2}]\n'
    print_json({"at": datetime.fromisoformat("2026-11-26T12:00:00.5+01:00")})
    assert capsys.readouterr().out == '{"at": "2026-11-26T11:00:00.500000Z"}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json(float("nan"))


def run_json(url: str, *words: str, **variables: Any) -> Any:  # noqa: ANN401 - JSON
    """Return what a command prints with --json."""
    done = oo_ml(*words, "--json", OO_ML_DATABASE_URL=url, **variables)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    return json.loads(done.out)


def test_json_of_keys_and_audit(database_url: str) -> None:
    """Keys and audit entries have their columns with their types; only `create` prints the token."""
    created = run_json(database_url, "keys", "create", "web", "--scope", "read", "--expires", "12h")
    token = created.pop("token")
    assert run_json(database_url, "keys", "list") == [created]
    lifetime = datetime.fromisoformat(created["expires_at"]) - datetime.fromisoformat(created["created_at"])
    assert lifetime == timedelta(hours=12)
    assert created["created_at"].endswith("Z")
    assert (created["scopes"], created["state"], created["last_used_at"]) == (["read"], "in use", None)
    [entry] = run_json(database_url, "audit", "list")
    assert token not in str(entry)
    assert (entry["action"], entry["subject"], entry["request_id"]) == ("key.created", "web", None)
    assert datetime.fromisoformat(entry["happened_at"]).tzinfo == UTC


def test_json_of_prompts(database_url: str) -> None:
    """Weights and shares are numbers; `show` has the templates."""
    listing = run_json(database_url, "prompts", "list")
    assert [(one["version"], one["weight"], one["share"]) for one in listing][:2] == [("v1", 0, 1), ("v2-mentor", 0, 0)]
    shown = run_json(database_url, "prompts", "show", "v1")
    assert "{{" in shown["user_template"]
    columns = listing[0].keys() & shown.keys()
    assert {name: listing[0][name] for name in columns} == {name: shown[name] for name in columns}


def test_json_of_single_results(database_url: str) -> None:
    """A single result is one object."""
    head = revisions.head()
    assert run_json(database_url, "db", "current") == {"database": head, "release": head}
    counts = {"users": 0, "states": 0, "entries": 0, "decisions": 0}
    assert run_json(database_url, "verify") == counts | {"difference": None}
    assert run_json(database_url, "upkeep", OO_ML_REWARD_WAIT=60) == {
        "made": [],
        "detached": [],
        "default_rewards_given": 0,
        "default_rewards_busy": False,
        "priors": [],
        "errors": [],
    }


def test_json_of_settings() -> None:
    """Settings have their types, an empty setting is null, and secrets are hidden."""
    found = {one["setting"]: one["value"] for one in run_json("postgresql://u:sesame@h/d", "settings")}
    assert found.keys() == {Settings.variable(name) for name in Settings.model_fields}
    assert (found["OO_ML_LANES"], found["OO_ML_EPSILON"], found["OO_ML_PROMPT_STICKY"]) == (2, 0.1, False)
    assert (found["OO_ML_REWARD_WAIT"], found["OO_ML_ALLOWED_HOSTS"]) == (None, [])
    assert found["OO_ML_DATABASE_URL"] == "**********"


def test_json_of_an_import(database_url: str, tmp_path: Path) -> None:
    """The report of an import has every count, and the files that were not imported."""
    write_state_file(tmp_path, "ada")
    (tmp_path / "eve.json").write_text("{", "utf-8")
    done = import_state(database_url, tmp_path, "--json")
    found = json.loads(done.out)
    assert done.code == 1
    assert (found["complete"], found["dry_run"]) == (True, False)
    assert (found["counts"]["imported"], found["counts"]["bad"]) == (1, 1)
    assert [(one["verdict"], one["file"]) for one in found["files"]] == [("bad", "eve.json")]
