"""PostgreSQL's programs, run as the owner of the data and detached from the terminal."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oo_ml.embedded_postgres.account import Account
from oo_ml.embedded_postgres.binaries import environment
from oo_ml.errors import EmbeddedPostgresError


@dataclass(frozen=True, slots=True)
class Programs:
    """The directory of the programs, and the account that runs them."""

    bin_dir: Path
    account: Account

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command for a program's name and its arguments."""
        return [*self.account.prefix, f"{self.bin_dir}/{words[0]}", *words[1:]]


def run(programs: Programs, words: Sequence[str], *, deadline: float, inherited: int, statements: str = "") -> None:
    """Run a program to its end; it inherits the open file `inherited` and reads `statements`."""
    account = programs.account
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and no argument comes from a request
            programs.command(words),
            **account.identity,
            cwd="/",
            env=environment(),
            input=statements,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[inherited],
            start_new_session=True,
            timeout=max(deadline - time.monotonic(), 0),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedPostgresError(f"{words[0]} did not finish in time (OO_ML_POSTGRES_START_TIMEOUT)") from None
    except PermissionError as error:
        raise EmbeddedPostgresError(f"{words[0]} can't be run: {error}{account.hint}") from error
    if done.returncode != 0:
        raise EmbeddedPostgresError(f"{words[0]} failed:\n{done.stdout.strip()}{account.hint}")


def spawn(programs: Programs, words: Sequence[str], *, output: int, extra: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program that outlives this process; its output goes to the open file `output`, never to a pipe."""
    account = programs.account
    try:
        return subprocess.Popen(  # noqa: S603 - no shell, and no argument comes from a request
            programs.command(words),
            **account.identity,
            cwd="/",
            env=environment() | extra,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C in the terminal must reach the service only; the service stops the server at its end.
            start_new_session=True,
        )
    except PermissionError as error:
        raise EmbeddedPostgresError(f"{words[0]} can't be run: {error}{account.hint}") from error
