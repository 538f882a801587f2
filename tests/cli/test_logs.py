"""Logs of commands: OO_ML_LOG_LEVEL holds for each, and they go to standard error."""

import json
from pathlib import Path
from typing import Any

import pytest

from oo_ml.cli.main import COMMANDS as ALL
from oo_ml.cli.main import LazyCommand
from tests.commands import Done, oo_ml
from tests.files.test_export_document import build_export

UNREACHABLE = "postgresql://u@127.0.0.1:1/d"
WARNING = "WARNING oo_ml.execution.retry: database_unavailable: "
LINE = "error: The database can't be reached: Connection refused (127.0.0.1:1)"
# Those that run a transaction of their own; each warns of a database that is away.
COMMANDS: dict[str, list[str]] = {
    "audit list": [],
    "evaluate": ["--target", "uniform"],
    "export": ["--user", "ada"],
    "import-state": ["states"],
    "keys create": ["web", "--scope", "read"],
    "keys list": [],
    "keys revoke": ["web"],
    "log export": ["--format", "csv"],
    "policies fit": [],
    "policies list": [],
    "policies publish": ["v9", "definition"],
    "policies retire": ["uniform-v1"],
    "policies show": ["uniform-v1"],
    "policies traffic": [],
    "policies warm": ["pooled-v1"],
    "prompts list": [],
    "prompts price": ["m", "1", "2"],
    "prompts prices": [],
    "prompts publish": ["v9", "--system", "template", "--user", "template"],
    "prompts retire": ["v1"],
    "prompts show": ["v1"],
    "prompts weight": ["v1", "1"],
    "replay": ["ada.json"],
    "upkeep": [],
    "verify": [],
}
# serve has its own tests; the others log nothing.
OTHERS = {"policies check", "serve", "settings", "version"}
# They log errors only, if nothing else is set.
QUIET = COMMANDS.keys() - {"import-state", "policies fit", "upkeep"}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files that the commands read."""
    (tmp_path / "definition").write_text(
        '{"inputs": [], "terms": [{"one": true}], "rule": {"exploration": 1}}', "utf-8"
    )
    (tmp_path / "template").write_text("{{ n }}", "utf-8")
    (tmp_path / "ada.json").write_text(build_export(), "utf-8")
    (tmp_path / "states").mkdir()
    unity = [[float(row == column) for column in range(5)] for row in range(5)]
    counters = {"pulls": 0, "reward_count": 0, "cumulative_reward": 0, "last_updated": None}
    state = {"A": unity, "b": [0] * 5, "meta": counters}
    (tmp_path / "states" / "ada.json").write_text(json.dumps(state), "utf-8")
    return tmp_path


def run(command: str, files: Path, **variables: Any) -> Done:  # noqa: ANN401
    """Run a command on a database that is away."""
    words = [str(files / word) if (files / word).exists() else word for word in COMMANDS[command]]
    return oo_ml(*command.split(), *words, OO_ML_DATABASE_URL=UNREACHABLE, **variables)


def test_commands_of_this_module() -> None:
    """This module tests every command that logs, so that a new one follows OO_ML_LOG_LEVEL too."""
    names: set[str] = set()
    for listed in ALL:
        command = listed.load() if isinstance(listed, LazyCommand) else listed
        names |= {f"{listed.name} {inner}" for inner in getattr(command, "commands", [""])}
    assert {name.strip() for name in names if not name.startswith("db ")} == COMMANDS.keys() | OTHERS


@pytest.mark.parametrize("command", COMMANDS)
def test_log_level(files: Path, command: str) -> None:
    """OO_ML_LOG_LEVEL decides whether a warning is on standard error; the last line is the outcome."""
    warns = command in QUIET
    done = run(command, files, OO_ML_LOG_LEVEL="debug" if warns else "error")
    assert (done.code, done.err.splitlines()[-1]) == (1, LINE)
    assert (WARNING in done.err) == warns
    assert WARNING not in done.out


@pytest.mark.parametrize(("command", "warns"), [("prompts list", False), ("upkeep", True)])
@pytest.mark.parametrize("unset", [None, ""], ids=["unset", "empty"])
def test_default_log_level(files: Path, command: str, warns: bool, unset: str | None) -> None:
    """Without OO_ML_LOG_LEVEL a failure is one line, except in commands that carry out several tasks."""
    done = run(command, files, OO_ML_LOG_LEVEL=unset)
    assert (done.code, done.err.splitlines()[-1]) == (1, LINE)
    assert (WARNING in done.err) == warns
