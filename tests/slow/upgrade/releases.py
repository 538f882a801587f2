"""Two releases beside each other: the previous commit, and this checkout with migrations that come next.

Both run in the environment of the tests, so the previous commit has the libraries of this one.
"""

import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oo_ml.storage.schema import revisions
from tests.commands import Done, environment, oo_ml_process

_CHECKOUT: Final = Path(__file__).parents[3]
_PARTS: Final = ("oo_ml", "alembic")

# The shortest changes that lock the tables of every decision and reward against all other sessions. Each has a
# transaction of its own: two of these locks in one transaction could wait for each other's holder.
_COMING: Final = (
    "ALTER TABLE oo_ml.policy_state ADD COLUMN added_by_test text",
    "ALTER TABLE oo_ml.feature_history ADD COLUMN added_by_test text",
    "ALTER TABLE oo_ml.reward_ledger ADD COLUMN added_by_test text",
)
_MIGRATION: Final = '''"""A change that a coming release could make."""

from migration_helpers import run

revision = "{revision}"
down_revision = "{previous}"


def upgrade() -> None:
    """Lock a table that is in use."""
    run("{statement}")
'''


@dataclass(frozen=True, slots=True)
class Release:
    """A directory with the package and the migrations of a release."""

    directory: Path

    @property
    def variables(self) -> dict[str, str]:
        """The variables with which Python imports this release, instead of the installed one."""
        return {"PYTHONPATH": str(self.directory)}

    def run(self, *words: str, url: str) -> Done:
        """Run `oo-ml` of this release on a database, to its end."""
        return oo_ml_process(*words, OO_ML_DATABASE_URL=url, **self.variables)

    def imported(self) -> Path:
        """Return the directory from which Python imports the package."""
        program = "import oo_ml; print(oo_ml.__path__[0])"
        command = [sys.executable, "-P", "-c", program]
        done = subprocess.run(  # noqa: S603 - no argument comes from outside
            command, env=environment(**self.variables), check=True, capture_output=True, text=True
        )
        return Path(done.stdout.strip()).parent


def previous_release(directory: Path) -> Release:
    """Write the release of the previous commit into `directory`.

    It is this checkout itself if there is no previous commit, as in a shallow clone or an sdist, or if the previous one
    had other texts of the same migrations: before the first release they still change, and no database is moved.
    """
    directory.mkdir()
    changed = _git("diff", "--name-only", "--diff-filter=MDR", "HEAD~1", "--", "alembic/versions", "alembic/sql")
    archive = directory / "archive.tar"
    archived = _git("archive", f"--output={archive}", "HEAD~1", *_PARTS)
    if changed.returncode != 0 or changed.stdout or archived.returncode != 0:
        _copy_checkout(directory)
        return Release(directory)
    with tarfile.open(archive) as members:
        members.extractall(directory, filter="data")
    return Release(directory)


def coming_release(directory: Path) -> Release:
    """Return a copy of this checkout in `directory` with further migrations, which lock the tables in use."""
    _copy_checkout(directory)
    previous = revisions.head()
    for number, statement in enumerate(_COMING, int(previous) + 1):
        revision = f"{number:04}"
        migration = _MIGRATION.format(revision=revision, previous=previous, statement=statement)
        file_name = f"2026_01_01_{revision}_pre_added_by_test.py"
        (directory / "alembic/versions" / file_name).write_text(migration, "utf-8")
        previous = revision
    return Release(directory)


def _copy_checkout(directory: Path) -> None:
    for part in _PARTS:
        shutil.copytree(_CHECKOUT / part, directory / part, ignore=shutil.ignore_patterns("__pycache__"))


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - no argument comes from outside
        ["git", *words],  # noqa: S607
        cwd=_CHECKOUT,
        check=False,
        capture_output=True,
        text=True,
    )
