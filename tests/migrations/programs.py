"""PostgreSQL's own programs and the linter of SQL, as administrators use them."""

import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from oo_ml.embedded_postgres import binaries


def dump(url: str, *options: str) -> str:
    """Return the output of pg_dump for a database."""
    return _run([f"{binaries.find(None)}/pg_dump", "--restrict-key=same", *options, url])


def psql(url: str, script: str) -> None:
    """Run a script with psql, as an administrator would; the first error ends it."""
    _run([f"{binaries.find(None)}/psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", url], script)


def squawk(script: str) -> list[str]:
    """Return the findings of the linter in a script, one line each, without positions."""
    done = subprocess.run(  # noqa: S603 - a tool of ours on a script of ours
        [
            f"{sysconfig.get_path('scripts')}/squawk",
            f"--config={Path(__file__).with_name('squawk.toml')}",
            "--reporter=gcc",
            "--stdin-filepath=migrations.sql",
        ],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return [line.split(": ", 2)[2] for line in done.stdout.splitlines() if line]


def _run(command: Sequence[str], stdin: str = "") -> str:
    done = subprocess.run(  # noqa: S603 - no argument comes from outside
        command, input=stdin, env=binaries.environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
