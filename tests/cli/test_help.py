"""`oo-ml --help`, `version` and a wrong command: their output and their imports."""

import subprocess
import sys

import pytest

from oo_ml.cli.main import COMMANDS, LazyCommand
from tests.commands import Done, environment, oo_ml

SLOW = {"alembic", "fastapi", "httpx", "numpy", "psycopg", "sqlalchemy"}


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (["--help"], SLOW),
        (["version"], SLOW | {"rich"}),
        (["nonsense"], SLOW),
        (["settings"], SLOW),
        (["verify", "--help"], {"alembic", "fastapi", "httpx"}),
    ],
)
def test_imports_of_a_command(words: list[str], unused: set[str]) -> None:
    """A command imports only what it needs: SQLAlchemy, alembic and FastAPI alone take most of a second."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-X", "importtime", "-m", "oo_ml", *words],
        env=environment(),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "oo_ml.cli.main" in imported
    assert imported & unused == set()


def test_help_lists_every_command() -> None:
    """`oo-ml --help` names each command with its summary."""
    done = oo_ml("--help")
    assert (done.code, done.err) == (0, "")
    for command in COMMANDS:
        assert any(str(command.name) in line and str(command.help) in line for line in done.out.splitlines())


@pytest.mark.parametrize("command", [command for command in COMMANDS if isinstance(command, LazyCommand)])
def test_help_of_a_command(command: LazyCommand) -> None:
    """`oo-ml COMMAND --help` has the help of the command itself, which says more than its summary."""
    full = command.load().help
    assert full is not None
    assert len(full) > len(str(command.help))


def test_error_of_a_wrong_command() -> None:
    """A wrong command is exit code 2, and the message names the closest command."""
    done = oo_ml("verfy")
    assert (done.code, done.out) == (2, "")
    assert "No such command 'verfy'. Did you mean 'verify'?" in done.err


def test_version() -> None:
    """`oo-ml version` prints the version and nothing else."""
    assert oo_ml("version") == Done(0, "0.1.0\n", "")
