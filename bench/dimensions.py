"""`python -m bench.dimensions` measures what the number of features and of candidates costs, and prints a table.

Each cell is a policy of its own, on one connection without HTTP: so the numbers are those of the maths, the statements
and the rows. A minute.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

import typer
import uuid_utils.compat as uuid_utils
from sqlalchemy import Engine

from bench import database
from bench.database import Database
from oo_ml import definitions
from oo_ml.domain import policies
from oo_ml.domain.policies import Policy
from oo_ml.domain.ridge import stack
from oo_ml.execution import retry
from oo_ml.services.decisions.decide import Candidate, DecideCommand, decide
from oo_ml.services.decisions.learn import DecisionRewardCommand, learn
from oo_ml.settings import Settings
from oo_ml.storage.postgres import engine

DIMENSIONS: Final = (5, 12, 32, 64)
CANDIDATES: Final = (10, 100)
# Of each cell; the first few warm up caches and prepared statements.
_DECISIONS: Final = 150
_WARM_UP: Final = 20
_PATIENCE: Final = 30.0


def main() -> None:
    """Print the table as Markdown: medians of milliseconds, and mean bytes."""
    with ExitStack() as until_done:
        directory = Path(until_done.enter_context(tempfile.TemporaryDirectory(prefix="oo-ml-bench-")))
        small, _ = until_done.enter_context(database.running(directory))
        source = engine.create(small.url, Settings(), threads=1)
        until_done.callback(source.dispose)
        rows = [(d, n, *_measure(source, small, d, n)) for d in DIMENSIONS for n in CANDIDATES]
    typer.echo("| d | n | choose, ms | decision, ms | reward, ms | state, bytes | WAL of a decision | of a reward |")
    typer.echo("| ---: " * 8 + "|")
    for d, n, choose, decision, reward, state, wal_of_decision, wal_of_reward in rows:
        sizes = f"{state:,} | {wal_of_decision:,} | {wal_of_reward:,}"
        typer.echo(f"| {d} | {n} | {choose:.2f} | {decision:.2f} | {reward:.2f} | {sizes} |")


def _measure(source: Engine, small: Database, d: int, n: int) -> tuple[float, float, float, int, int, int]:
    """Return milliseconds of the choice alone, of a decision, of a reward; bytes of a state; WAL of the two."""
    random, policy, user = Random(1), _policy(d), f"user {d} {n}"  # noqa: S311 - load, not secrets
    times: dict[str, list[float]] = {"choose": [], "decide": [], "learn": []}
    wal: dict[str, list[int]] = {"decide": [], "learn": []}
    for _ in range(_DECISIONS):
        command = _command(random, policy, user, n)

        def choose(command: DecideCommand = command) -> None:
            X = policy.features.encode([command.context], [one.features for one in command.candidates], [n]).X
            policies.choose(policy.rule, stack([policy.stranger]), [0], X, [n], [1])

        times["choose"].append(_time(choose)[0])
        before = _wal(small)
        took, [answer] = _time(lambda command=command: _run(source, decide, command))  # type: ignore[misc]
        between = _wal(small)
        reward = DecisionRewardCommand(user, command.decision_id, answer.content["tip_id"], 1.0, datetime.now(UTC))
        times["decide"].append(took)
        times["learn"].append(_time(lambda reward=reward: _run(source, learn, reward))[0])  # type: ignore[misc]
        wal["decide"].append(between - before)
        wal["learn"].append(_wal(small) - between)
    query = f"SELECT pg_column_size(s) FROM oo_ml.policy_state AS s WHERE user_id = '{user}'"  # noqa: S608 - a number
    with small.connect() as connection:
        size = database.one(connection, query)
    choose_ms, decide_ms, learn_ms = (median(own[_WARM_UP:]) * 1000 for own in times.values())
    return choose_ms, decide_ms, learn_ms, size, *(round(median(own[_WARM_UP:])) for own in wal.values())


def _policy(d: int) -> Policy:
    """Return a policy with d features: the constant, and numbers of the candidates."""
    names = [f"n{place}" for place in range(d - 1)]
    inputs = [{"name": name, "of": "candidate", "encoding": "number", "min": 0, "max": 1} for name in names]
    terms = [{"one": True}, *({"input": name} for name in names)]
    rule = {"alpha": 1.0, "exploration": 0.02}
    definition = definitions.parse({"inputs": inputs, "terms": terms, "rule": rule})
    return definitions.compile_policy(f"d{d}", definition)


def _command(random: Random, policy: Policy, user: str, n: int) -> DecideCommand:
    fields = [one.field for one in policy.features.inputs]
    candidates = [Candidate(f"tip {place}", {name: random.random() for name in fields}) for place in range(n)]
    return DecideCommand(user, policy, uuid_utils.uuid7(), datetime.now(UTC), {}, candidates)


def _run(source: Engine, service: Callable[..., Any], command: object) -> Any:  # noqa: ANN401 - outcomes of the service
    return retry.run(source, service, [command], time.monotonic() + _PATIENCE)


def _time(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def _wal(small: Database) -> int:
    """Return the number of bytes of WAL since the server was created; nothing else writes to it."""
    with small.connect() as connection:
        return int(database.one(connection, "SELECT pg_current_wal_insert_lsn() - '0/0'"))


if __name__ == "__main__":
    typer.run(main)
