"""The reference: the service's work as plain SQL, sent by pgbench with prepared statements to the same tables.

Percentiles are those of its log of every transaction.
"""

import math
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.errors import FailedRunError
from bench.figures import Figures
from bench.open_decisions import OpenDecisions
from bench.patterns import Row
from oo_ml.embedded_postgres import Server, binaries

_SCRIPTS: Final = Path(__file__).parent
_RATE: Final = re.compile(r"^tps = ([0-9.]+) \(without initial connection time\)", re.MULTILINE)
# One process keeps up with 32 clients; on a small machine a second one would only take from PostgreSQL.
_THREADS: Final = 1
_PATIENCE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Reference:
    """The server and the open decisions for pgbench, and the row that it writes.

    Attributes:
        row: a decision as the service wrote it, columns by name.
    """

    server: Server
    open_decisions: OpenDecisions
    row: Row


def version() -> str:
    """Return pgbench's version."""
    return binaries.call([_program(), "--version"]).stdout.strip()


def score(reference: Reference, *, clients: int, seconds: int, is_hot: bool = False) -> Figures:
    """Make decisions; `is_hot`: all for one user."""
    open_decisions = reference.open_decisions
    last = open_decisions.first_user if is_hot else open_decisions.first_user + open_decisions.users - 1
    written = {column: text for column, text in reference.row.items() if text is not None}
    variables = {**written, "first_user": open_decisions.first_user, "last_user": last}
    figures, _ = _run(reference.server, "score.sql", variables, clients, seconds)
    return figures


def reward(reference: Reference, *, clients: int, seconds: int) -> Figures:
    """Give rewards."""
    open_decisions = reference.open_decisions
    variables = {
        "first_user": open_decisions.first_user,
        "users": open_decisions.users,
        "open_decisions": open_decisions.count,
        "first_time": open_decisions.first_time,
        "rewarded": open_decisions.rewarded,
        "clients": clients,
        "turn": -1,
        "reward": 0.5,
        "x": reference.row["x"],
        "tip_id": reference.row["tip_id"],
    }
    figures, longest = _run(reference.server, "reward.sql", variables, clients, seconds)
    # Clients that were slower leave some out.
    open_decisions.rewarded += longest * clients
    if open_decisions.rewarded > open_decisions.count:
        raise FailedRunError(f"all {open_decisions.count} open decisions have been rewarded")
    return figures


def _run(
    server: Server, script: str, variables: Mapping[str, object], clients: int, seconds: int
) -> tuple[Figures, int]:
    """Return the figures, and the number of transactions of the busiest client."""
    with TemporaryDirectory(prefix="oo-ml-pgbench-") as logs:
        done = subprocess.run(  # noqa: S603 - no shell
            [
                _program(),
                "--no-vacuum",
                "--protocol=prepared",
                f"--client={clients}",
                f"--jobs={_THREADS}",
                f"--time={seconds}",
                f"--file={_SCRIPTS / script}",
                "--log",
                f"--log-prefix={logs}/transactions",
                *(f"--define={name}={value}" for name, value in variables.items()),
                f"--host={server.socket_dir}",
                f"--port={server.port}",
                f"--username={server.user}",
                server.database,
            ],
            env=binaries.environment(),
            capture_output=True,
            text=True,
            timeout=seconds + _PATIENCE_SECONDS,
            check=False,
        )
        rate = _RATE.search(done.stdout)
        if done.returncode != 0 or rate is None:
            raise FailedRunError(f"pgbench failed: {done.stderr.strip()[-300:]}")
        log = [line.split() for file in Path(logs).iterdir() for line in file.read_text().splitlines()]
    # A line: client, its transactions before this one, microseconds, ...
    milliseconds = sorted(int(line[2]) / 1000 for line in log)
    percentiles = [_percentile(milliseconds, share) for share in (0.5, 0.99, 0.999)]
    return Figures(float(rate[1]), *percentiles), 1 + max(int(line[1]) for line in log)


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1]


def _program() -> str:
    return f"{binaries.find(None)}/pgbench"
