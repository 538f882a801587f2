"""Completion of `oo-ml` in a shell."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_help import EVERYTHING, TABLES, list_imports
from tests.commands import environment

SCRIPT = """
eval "$(_OO_ML_COMPLETE=source_bash oo-ml)"
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_oo_ml_completion oo-ml
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("oo-ml v", "verify version"),
        ("oo-ml keys re", "revoke"),
        ("oo-ml keys create web --sc", "--scope"),
        ("oo-ml policies pub", "publish"),
        ("oo-ml verify --s", "--sample"),
        ("oo-ml keys create web --scope de", "decide"),
    ],
)
def test_completion_in_bash(words: str, completions: str) -> None:
    """Commands, their options and the values of options are completed."""
    done = subprocess.run(  # noqa: S603 - our own program
        ["bash", "--norc", "-c", SCRIPT.format(words=words)],  # noqa: S607
        env=environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == (completions.split(), "")


@pytest.mark.parametrize(
    "command", ["audit", "db", "export", "keys", "policies", "prompts", "replay", "upkeep", "verify"]
)
def test_imports_of_a_completion(command: str) -> None:
    """A completion imports neither settings nor services, so that a key press is answered quickly."""
    imported = list_imports(
        "-m", "oo_ml", _OO_ML_COMPLETE="complete_bash", COMP_WORDS=f"oo-ml {command} -", COMP_CWORD=2
    )
    # Each of these commands imports it; -X importtime leaves out what importlib.import_module was called with.
    assert "oo_ml.cli.database" in imported
    assert imported & (EVERYTHING | TABLES | {"pydantic_settings"}) == set()
