"""Every command of README.md and docs/ works: the ```sh blocks of a page are run in order, in one shell.

A ```text block that follows directly is the standard output. MASKS hides ids and times, and "..." stands for any text
within a line.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from typer.core import TyperGroup

from oo_ml.cli.main import LazyCommand, app
from oo_ml.domain.policies import EPSILON_GREEDY
from oo_ml.embedded_postgres import binaries
from tests import file_service
from tests.commands import PATIENT, environment, run_serve
from tests.conftest import MIGRATOR, SERVICE, Serve
from tests.docs.pages import PAGES, ROOT, Block, find_blocks, remove_blocks

COMMANDS: Final = {
    page: [block for block in find_blocks(path.read_text("utf-8")) if block.language == "sh"]
    for page, path in PAGES.items()
    # tests/docs/test_analytics.py runs its commands, on simulated weeks.
    if page != "docs/guides/analytics.md"
}

LANGUAGES: Final = {"sh", "text", "json", "sql", "ts", "yaml", "{include}", "{toctree}"}
# An indented line is a code block too, and these tests would not run it.
INDENTED: Final = re.compile(
    r"^(?: {4}|\t)\s*(?:\$ |\w+=\S+ )*(?:curl|oo-ml|OO_ML_|psql|pg_dump|make |python|npx|\.venv|alembic).*",
    re.MULTILINE,
)

# These commands run until they are stopped. Each is started on a free port, and must answer.
SERVES: Final = re.compile(r"^(?:\w+=\S+ )*(?:make run|oo-ml serve)\b.*$", re.MULTILINE)
# These commands take minutes, or install something, so only the target is checked. `make test` and .ci/run run them.
MAKES: Final = re.compile(r"^(?:\w+=\S+ )*make .*$", re.MULTILINE)
# This command needs npm: tests/slow/test_typescript.py runs it.
NEEDS_NPM: Final = re.compile(r"^npx .*$", re.MULTILINE)

# No command writes into these directories, and they are most of the files.
CODE: Final = {"alembic", "bench", "demo", "oo_ml", "tests"}

INLINE: Final = re.compile(r"`(?:\w+=\S+ )*oo-ml ([^`]+)`")

SERVICES: Final = [
    (page, line) for page, written in COMMANDS.items() for block in written for line in SERVES.findall(block.content)
]

_GAP: Final = re.compile(r"\t| {2,}")
_FLOAT: Final = re.compile(r"-?\d+\.\d{7,}")
MASKS: Final = (
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "<time>"),
)

# Before the name of the database: the one into which a page restores it.
_RESTORED: Final = "restored_"
_NEXT_BLOCK: Final = "=== next block ==="


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the checkout, for commands that write files; its environments are the one that runs the tests."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for one in ROOT.iterdir():
        if one.name in CODE:
            (copy / one.name).symlink_to(one)
        elif one.is_dir() and not one.name.startswith("."):
            shutil.copytree(one, copy / one.name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        elif one.is_file():
            shutil.copy2(one, copy)
    for environment_ in (".venv", ".venv-run"):
        (copy / environment_).symlink_to(sys.prefix)
    return copy


@pytest.fixture
def variables(home: Path, postgresql: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the environment of the shell. A command that names no database uses the database of the test."""
    # An error of the service is an error of the command.
    (home / ".curlrc").write_text("fail-with-body\nshow-error\n", "utf-8")
    return environment(
        **PATIENT,
        HOME=home,
        PATH=os.pathsep.join([str(binaries.find(None)), os.environ["PATH"]]),
        LC_ALL="C.UTF-8",
        COLUMNS=120,
        PIP_DISABLE_PIP_VERSION_CHECK=1,
        PGPORT=postgresql.info.port,
        OO_ML_DATABASE_URL=_build_url(postgresql, SERVICE),
    )


@pytest.fixture
def real(serve: Serve, postgresql: psycopg.Connection[Any], tmp_path: Path) -> dict[str, str]:
    """Return real addresses and paths by the placeholders that the pages use."""
    owner = _build_url(postgresql, MIGRATOR)
    return {
        "localhost:8000": serve(epsilon=0).url.removeprefix("http://"),
        "postgresql://owner:...@db/oo_ml": owner,
        "postgresql://service:...@db/oo_ml": _build_url(postgresql, SERVICE),
        "postgresql://owner:...@db/restored": _build_url(postgresql, MIGRATOR, _RESTORED),
        "postgresql://service:...@db/restored": _build_url(postgresql, SERVICE, _RESTORED),
        "postgresql://app:...@db/app": _build_url(postgresql, "postgres"),
        "-h ~/.local/share/oo-ml/socket -U oo_ml oo_ml": owner,
        "/srv/old/models": str(tmp_path / "models"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, written in COMMANDS.items() if written])
def test_commands(
    page: str, checkout: Path, variables: dict[str, str], real: dict[str, str], postgresql: psycopg.Connection[Any]
) -> None:
    """The commands of a page succeed, in order, in one shell with an empty home, and print the outputs of the page."""
    written = COMMANDS[page]
    if page in PREPARATIONS:
        PREPARATIONS[page](postgresql, Path(real["/srv/old/models"]))
    printed = _run(page, [_prepare_block(block, real) for block in written], checkout, variables)
    for block, output in zip(written, printed, strict=True):
        if block.output is not None:
            is_right = re.fullmatch(_build_pattern(block.output), _mask(output)) is not None
            assert is_right, f"{page}:{block.line} prints something else\n\n{block.content}\n{output}"
    for block in written:
        for line in MAKES.findall(block.content):
            _dry_run_make(line, checkout, variables)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "line"), SERVICES)
def test_services(
    page: str, line: str, checkout: Path, variables: dict[str, str], real: dict[str, str], tmp_path: Path
) -> None:
    """`make run` starts with its private PostgreSQL in an empty home, `oo-ml serve` with the database that it names."""
    # The page creates a key first.
    started, own = line, dict(variables) | {"OO_ML_ADMIN_KEY": "a-key-of-the-test-run"}
    if line.startswith("make "):
        started = _dry_run_make(line, checkout, variables).splitlines()[-1]
        del own["OO_ML_DATABASE_URL"]
    command = _substitute(started.replace("--port 8000", "--port 0"), real)
    assert "--port 0" in command, f"{page}: {line}"
    script = f"cd {checkout} && . .venv/bin/activate && exec env {command}"
    with run_serve(tmp_path / "log", ["bash", "-euc", script], **own) as service:
        assert service.client.get("/readyz").json() == {"ok": True}


@pytest.mark.parametrize("page", PAGES)
def test_commands_outside_blocks(page: str) -> None:
    """Every command stands in a ```sh block, which begins at the start of a line."""
    written = PAGES[page].read_text("utf-8")
    assert {block.language for block in find_blocks(written)} <= LANGUAGES
    rest = remove_blocks(written)
    assert INDENTED.findall(rest) == []
    assert "```" not in rest


@pytest.mark.parametrize("page", PAGES)
def test_inline_commands(page: str) -> None:
    """Every `oo-ml ...` in the prose is an existing command with existing options."""
    for words in INLINE.findall(remove_blocks(PAGES[page].read_text("utf-8"))):
        command: Any = app
        for word in re.findall(r"[\w-]+", words):
            if word.startswith("--"):
                assert word in {name for parameter in command.params for name in parameter.opts}, words
            elif isinstance(command, TyperGroup):
                assert word in command.commands, words
                found = command.commands[word]
                command = found.load() if isinstance(found, LazyCommand) else found


def _prepare_block(block: Block, real: dict[str, str]) -> str:
    content = block.content
    for elsewhere in (SERVES, MAKES, NEEDS_NPM):
        content = elsewhere.sub(":", content)
    return _substitute(content, real)


def _substitute(command: str, real: dict[str, str]) -> str:
    for placeholder, value in real.items():
        command = command.replace(placeholder, value)
    return command


def _run(page: str, contents: list[str], checkout: Path, variables: dict[str, str]) -> list[str]:
    """Run the blocks of a page, and return what each prints."""
    script = checkout / "page.sh"
    first = ["set -eu -o pipefail", """trap 'echo "This failed: $BASH_COMMAND" >&2' ERR"""]
    # The README has the line itself.
    activate = [] if page == "README.md" else [". .venv/bin/activate"]
    mark = f"printf '\\n%s\\n' '{_NEXT_BLOCK}' | tee /dev/stderr"
    script.write_text("\n".join([*first, *activate, *(f"{mark}\n{content}" for content in contents)]), "utf-8")
    done = subprocess.run(  # noqa: S603 - what stands in our own docs
        ["timeout", "300", "bash", script.name],  # noqa: S607
        cwd=checkout,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    _, *printed = done.stdout.split(f"\n{_NEXT_BLOCK}\n")
    *_, errors = done.stderr.split(f"\n{_NEXT_BLOCK}\n")
    assert done.returncode == 0, (
        f"{page}: exit code {done.returncode}\n\n{contents[len(printed) - 1]}\n{''.join(printed[-1:])}\n{errors}"
    )
    return printed


def _dry_run_make(line: str, checkout: Path, variables: dict[str, str]) -> str:
    """Return the commands that make would run for a line."""
    done = subprocess.run(  # noqa: S603 - what stands in our own docs
        ["bash", "-c", line.replace("make ", "make --dry-run ", 1)],  # noqa: S607
        cwd=checkout,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}"
    return done.stdout


def _build_pattern(expected: str) -> str:
    return ".*".join(map(re.escape, _mask(expected).split("...")))


def _mask(output: str) -> str:
    """Return the output with ids and times masked, floats with six digits, and each gap between cells two spaces."""
    output = _GAP.sub("  ", output)
    for pattern, name in MASKS:
        output = pattern.sub(name, output)
    output = _FLOAT.sub(lambda found: f"{float(found[0]):.6f}", output)
    return "\n".join(line.rstrip() for line in output.splitlines()).strip("\n")


def _build_url(connection: psycopg.Connection[Any], role: str, prefix: str = "") -> str:
    """Return an address without characters that are special in a shell; PGPORT has the port."""
    return f"postgresql://{role}@/{prefix}{connection.info.dbname}?host={connection.info.host}"


def _prepare_operations(postgresql: psycopg.Connection[Any], _: Path) -> None:
    """Detach July 2026, as retention does, and create the database into which the page restores."""
    postgresql.execute(f"SET ROLE {MIGRATOR}")
    postgresql.execute("SELECT oo_ml.create_feature_history_months('2026-07-15', 1)")
    postgresql.execute("ALTER TABLE oo_ml.feature_history DETACH PARTITION oo_ml.feature_history_2026_07")
    postgresql.execute("RESET ROLE")
    postgresql.commit()
    postgresql.autocommit = True
    name = f"{_RESTORED}{postgresql.info.dbname}"
    postgresql.execute(f"DROP DATABASE IF EXISTS {name}")
    postgresql.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0 OWNER {MIGRATOR}")


def _write_old_states(postgresql: psycopg.Connection[Any], models: Path) -> None:
    """Write states of the file-based service, and the table of the application's users."""
    postgresql.execute("CREATE TABLE public.users (id text PRIMARY KEY)")
    postgresql.execute("INSERT INTO public.users VALUES ('ada'), ('ben@example.org')")
    postgresql.commit()
    models.mkdir()
    file_service.write_state_file(models, "ada")
    file_service.write_state_file(models, "ada", EPSILON_GREEDY)
    file_service.write_state_file(models, "ben_example_org")


# Preparations that a page assumes.
PREPARATIONS: Final[dict[str, Callable[[psycopg.Connection[Any], Path], None]]] = {
    "docs/guides/moving.md": _write_old_states,
    "docs/operations.md": _prepare_operations,
}
