"""Load on the service, by wrk. A run with any answer but 200 gives no number, nor does one that left less than it said.

Percentiles are wrk's own, which it corrects for calls that waited while no call was sent ("coordinated omission").
"""

import hashlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from bench import bodies
from bench.database import Database
from bench.errors import BenchError, FailedRunError
from bench.figures import Figures
from bench.open_decisions import OpenDecisions
from bench.service import Service

_SCRIPT: Final = Path(__file__).with_name("load.lua")
# Longer than the service's own limits, so that the service itself answers a call that is too slow.
_TIMEOUT_SECONDS: Final = 5
_END_SECONDS: Final = 30
_LONGEST_SECONDS: Final = 3600
_PAUSE: Final = 0.05
_REST_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Call:
    """A kind of call.

    Attributes:
        item: the body of one item, see bodies.py.
        items: the number of items in a batch; 0 for a single call.
    """

    path: str
    item: str
    items: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A service, its database, its open decisions, and the directory for the files of wrk."""

    service: Service
    database: Database
    open_decisions: OpenDecisions
    directory: Path


def score(candidates: int = 10) -> Call:
    """POST /score."""
    return Call("/score", bodies.score(candidates))


def reward() -> Call:
    """POST /reward."""
    return Call("/reward", bodies.reward())


def score_batch(items: int) -> Call:
    """POST /score/batch."""
    return Call("/score/batch", bodies.score(10), items)


def reward_batch(items: int) -> Call:
    """POST /reward/batch."""
    return Call("/reward/batch", bodies.reward(), items)


def version() -> str:
    """Return wrk's version.

    Raises:
        BenchError: there is no wrk.
    """
    # It prints its version, then how to use it, and calls that a failure.
    said = subprocess.run([_wrk(), "-v"], capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    return said.stdout.splitlines()[0].partition(" [")[0]


def run(target: Target, calls: Sequence[Call], *, clients: int, seconds: int, is_hot: bool = False) -> Figures:
    """Send `calls` in turn from so many connections for so long.

    Args:
        target: where to.
        calls: kinds of calls, all of one number of items.
        clients: connections, each with one call under way.
        seconds: how long.
        is_hot: whether all are about one user.

    Raises:
        FailedRunError: an answer was not 200, or a connection broke, or something answered is not in the database.
    """
    return _drive(target, calls, _command(target, calls, clients, seconds, is_hot=is_hot), seconds, lambda _: None)


def run_until(target: Target, calls: Sequence[Call], *, clients: int, is_over: Callable[[], bool]) -> None:
    """Send `calls` until it is over.

    Raises:
        FailedRunError: as `run`.
    """

    def watch(wrk: subprocess.Popen[str]) -> None:
        while not is_over() and wrk.poll() is None:
            time.sleep(_PAUSE)
        wrk.send_signal(signal.SIGINT)

    if not is_over():
        _drive(target, calls, _command(target, calls, clients, _LONGEST_SECONDS), 0, watch)


def _drive(
    target: Target,
    calls: Sequence[Call],
    command: Sequence[str],
    seconds: int,
    watch: Callable[[subprocess.Popen[str]], None],
) -> Figures:
    before = target.database.changes()
    with _running(command) as wrk:
        watch(wrk)
        out, err = wrk.communicate(timeout=seconds + _END_SECONDS)
    try:
        result = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        raise FailedRunError(f"wrk failed: {(err or out).strip()}") from None
    target.open_decisions.rewarded = int(result["rewarded"])
    done = int(result["requests"]) * max(calls[0].items, 1)
    _check(target, result, done, _changes_at_rest(target.database) - before)
    return Figures(done / result["seconds"], result["p50"], result["p99"], result["p999"])


def _changes_at_rest(database: Database) -> int:
    """Return the number of changes when the unfinished calls of wrk have ended, so that no later run is slowed."""
    changes = database.changes()
    while True:
        time.sleep(_REST_SECONDS)
        before, changes = changes, database.changes()
        if changes == before:
            return changes


def _check(target: Target, result: Mapping[str, float], done: int, changes: int) -> None:
    if result["refused"] or result["broken"] or not done:
        counts = f"{result['requests']:.0f} answers, {result['refused']:.0f} of them errors"
        raise FailedRunError(f"{counts}; {result['broken']:.0f} times the connection broke or no answer came in time")
    if target.open_decisions.rewarded > target.open_decisions.count:
        raise FailedRunError(f"all {target.open_decisions.count} open decisions have been rewarded")
    if changes < done:
        raise FailedRunError(f"{done} decisions and rewards were answered, {changes} are in the database")


def _command(
    target: Target, calls: Sequence[Call], clients: int, seconds: int, *, is_hot: bool = False
) -> Sequence[str]:
    """Return how wrk is called, once one call of each kind has been tried."""
    for call in calls:
        _try(target, call)
    open_decisions = target.open_decisions
    return [
        _wrk(),
        "--threads=1",
        f"--connections={clients}",
        f"--duration={seconds}s",
        f"--timeout={_TIMEOUT_SECONDS}s",
        f"--script={_SCRIPT}",
        target.service.url,
        "--",
        f"seed={time.time_ns() % 2**31}",
        *([f"token={target.service.token}"] if target.service.token else []),
        f"first_user={open_decisions.first_user}",
        f"users={1 if is_hot else open_decisions.users}",
        f"open_decisions={open_decisions.count}",
        f"first_time={open_decisions.first_time}",
        f"rewarded={open_decisions.rewarded}",
        *(f"call={call.path},{_write_body(target, call)},{call.items}" for call in calls),
    ]


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: S603 - no shell
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _write_body(target: Target, call: Call) -> Path:
    """Write the bodies into files for wrk."""
    path = target.directory / f"{hashlib.sha256(call.item.encode()).hexdigest()}.json"
    path.write_text(call.item)
    return path


def _try(target: Target, call: Call) -> None:
    """Make one call and look at its answer, which wrk does not."""
    items = [_fill(target.open_decisions, call.item) for _ in range(max(call.items, 1))]
    body = f'{{"items":[{",".join(items)}]}}' if call.items else items[0]
    address, headers = f"{target.service.url}{call.path}", {"Content-Type": "application/json"}
    if target.service.token:
        headers["Authorization"] = f"Bearer {target.service.token}"
    try:
        response = httpx.post(address, content=body, headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=False)
    except httpx.TransportError as error:
        raise FailedRunError(f"{call.path} does not answer: {error!r}") from error
    if response.status_code != httpx.codes.OK:
        raise FailedRunError(f"{call.path} answers {response.status_code}: {response.text[:200]}")
    answer = response.json()
    outcomes = answer["outcomes"] if call.items else [{"status": 200, "body": answer}]
    good = [outcome for outcome in outcomes if outcome["status"] == httpx.codes.OK and _has_done(outcome["body"])]
    if len(good) != len(items):
        raise FailedRunError(f"{call.path} answers {len(good)} of {len(items)} items as it should")


def _fill(open_decisions: OpenDecisions, item: str) -> str:
    if bodies.DECISION not in item:
        return item.replace(bodies.USER, str(open_decisions.first_user))
    user, decision = open_decisions.take()
    return item.replace(bodies.USER, user).replace(bodies.DECISION, str(decision))


def _has_done(body: Mapping[str, Any]) -> bool:
    """Return True if an answer reports a decision made or a reward learned."""
    return "tip_id" in body or body.get("applied") is True


def _wrk() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise BenchError("wrk, which makes the load, is not on the PATH: install the package wrk")
    return found
