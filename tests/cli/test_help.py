"""`oo-ml --help`, `version` and a wrong command: their output and their imports."""

import subprocess
import sys

import pytest

from oo_ml.cli.main import COMMANDS, LazyCommand
from tests.commands import Done, environment, oo_ml

DATABASE = {"numpy", "psycopg", "sqlalchemy"}
SERVICE = {"fastapi", "httpx", "prometheus_client", "oo_ml.api.schemas", "starlette", "uvicorn"}
TEMPLATES = {"jinja2"}
MIGRATIONS = {"alembic"}
TABLES = {"rich"}
# Only `oo-ml serve` and OO_ML_LOG_FORMAT=json need them, and each takes long.
OBSERVATION = {"opentelemetry", "structlog"}
EVERYTHING = DATABASE | SERVICE | TEMPLATES | MIGRATIONS


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        ("--help", EVERYTHING | TABLES | {"pydantic"}),
        ("--version", EVERYTHING | TABLES),
        ("version", EVERYTHING | TABLES),
        ("nonsense", EVERYTHING | TABLES),
        ("keys --help", EVERYTHING | TABLES | {"pydantic_settings"}),
        ("keys create", EVERYTHING | TABLES | {"pydantic_settings"}),
        ("policies --help", EVERYTHING | TABLES | {"pydantic_settings"}),
        ("policies check /nonexistent", EVERYTHING | TABLES | {"pydantic_settings"}),
        ("policies show linucb-v1", SERVICE | TEMPLATES | MIGRATIONS | TABLES),
        ("policies fit", SERVICE | TEMPLATES | MIGRATIONS | TABLES),
        ("prompts --help", EVERYTHING | TABLES | {"pydantic_settings"}),
        ("settings", EVERYTHING | TABLES),
        ("keys list", SERVICE | TEMPLATES | MIGRATIONS | TABLES),
        ("db current", SERVICE | TEMPLATES | MIGRATIONS | TABLES | {"numpy"}),
        ("db grant-service ada", SERVICE | TEMPLATES | MIGRATIONS | TABLES | {"numpy"}),
        ("prompts show v1", SERVICE | MIGRATIONS | TABLES),
        ("verify", SERVICE | TEMPLATES | MIGRATIONS | TABLES),
        ("export --user ada", SERVICE | TEMPLATES | MIGRATIONS | TABLES),
        ("log export --format csv", SERVICE | TEMPLATES | MIGRATIONS | TABLES | {"pyarrow"}),
        ("upkeep", SERVICE | TEMPLATES | MIGRATIONS | TABLES),
    ],
)
def test_imports_of_a_command(words: str, unused: set[str]) -> None:
    """Up to its first connection, which fails here, a command imports only what it needs."""
    imported = list_imports("-m", "oo_ml", *words.split(), OO_ML_DATABASE_URL="postgresql://u@/d?host=/nonexistent")
    assert "oo_ml.cli.main" in imported
    assert imported & (unused | OBSERVATION) == set()


def test_imports_of_a_supervisor() -> None:
    """`oo-ml serve` begins with the database: the endpoints are imported later, by the processes that serve."""
    unused = (SERVICE | TEMPLATES | MIGRATIONS | TABLES) - {"uvicorn"}
    imported = list_imports("-m", "oo_ml", "serve", OO_ML_DATABASE_URL="mysql://h/d")
    assert imported & (unused | OBSERVATION) == set()


def test_imports_of_a_service() -> None:
    """A process that serves doesn't import alembic: it reads revisions, and migrates nothing."""
    imported = list_imports("-c", "import oo_ml.cli.application")
    assert "oo_ml.storage.schema.revisions" in imported
    assert imported & (MIGRATIONS | {"structlog", "oo_ml.tracing.spans"}) == set()


def list_imports(*words: str, **variables: object) -> set[str]:
    """Return the modules that Python imports for a command line."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-X", "importtime", *words],
        env=environment(**variables),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_help_lists_every_command() -> None:
    """`oo-ml --help` names each command with its summary."""
    done = oo_ml("--help")
    assert (done.code, done.err) == (0, "")
    for command in COMMANDS:
        assert any(str(command.name) in line and str(command.help) in line for line in done.out.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
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
    """`oo-ml version` and `oo-ml --version` print the version and nothing else."""
    assert oo_ml("version") == oo_ml("--version") == Done(0, "0.1.0\n", "")
