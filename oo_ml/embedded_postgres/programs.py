"""Running PostgreSQL's programs as the account that the data belongs to, apart from this process's terminal."""

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
    """Where the programs are, and as whom they run."""

    bin_dir: Path
    account: Account

    def command(self, words: Sequence[str]) -> list[str]:
        """What to execute for a program's name and its arguments."""
        return [*self.account.prefix, f"{self.bin_dir}/{words[0]}", *words[1:]]


def run(programs: Programs, words: Sequence[str], *, deadline: float, inherited: int, statements: str = "") -> None:
    """Run a program to its end, with the open file `inherited`; `statements` is what it reads."""
    account = programs.account
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and no word of it comes from a request
            programs.command(words),
            user=account.user,
            group=account.group,
            extra_groups=account.extra_groups,
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
        raise EmbeddedPostgresError(f"{words[0]} did not get done in time (OO_ML_POSTGRES_START_TIMEOUT)") from None
    except PermissionError as error:
        raise EmbeddedPostgresError(f"{words[0]} can't be run: {error}{account.hint}") from error
    if done.returncode != 0:
        raise EmbeddedPostgresError(f"{words[0]} failed:\n{done.stdout.strip()}{account.hint}")


def spawn(programs: Programs, words: Sequence[str], *, output: int, extra: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a program that outlives this process; what it says goes to the open file `output`, never to a pipe."""
    account = programs.account
    try:
        return subprocess.Popen(  # noqa: S603 - no shell, and no word of it comes from a request
            programs.command(words),
            user=account.user,
            group=account.group,
            extra_groups=account.extra_groups,
            cwd="/",
            env=environment() | extra,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C in the terminal is for the service, which stops the server when it has finished.
            start_new_session=True,
        )
    except PermissionError as error:
        raise EmbeddedPostgresError(f"{words[0]} can't be run: {error}{account.hint}") from error
