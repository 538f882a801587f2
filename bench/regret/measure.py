"""The regret of each policy on a stream, and how well pooled-v1 knows what it does not know."""

import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.regret import play
from bench.regret.play import PLAYERS, POOLED
from bench.regret.streams import Drawn, Stream, draw
from oo_ml.domain.policies import LINUCB

# Of each user: the time in which a user is won or lost.
FIRST: Final = 20
_Z: Final = 1.959963984540054
_PEERS: Final = Path(__file__).with_name("peers.py")


class Regret(NamedTuple):
    """Regret in the first 20 decisions of all users, and in all decisions."""

    first: float
    overall: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A stream drawn from one seed.

    Attributes:
        decisions: their number.
        regrets: of each policy, by its name.
        covered: the share of the first 20 decisions in which the 95 % interval of pooled-v1's belief about the chosen
            candidate has its expected reward.
    """

    decisions: int
    regrets: Mapping[str, Regret]
    covered: float


def measure(stream: Stream, seed: int) -> Measured:
    """Let every policy decide on a stream."""
    drawn = draw(stream, seed)
    played = {name: play.play(play.load(name), drawn) for name in PLAYERS}
    pooled, is_first = played[POOLED], drawn.numbers <= FIRST
    means = drawn.means[np.arange(len(drawn.rounds)), pooled.chosen]
    is_covered = np.abs(means - pooled.expected) <= _Z * pooled.deviation
    regrets = {name: add_regret(drawn, one.chosen) for name, one in played.items()}
    return Measured(len(drawn.rounds), regrets, float(is_covered[is_first].mean()))


def add_regret(drawn: Drawn, chosen: NDArray[np.intp]) -> Regret:
    """Return the regret of the candidates chosen."""
    regret = drawn.regret[np.arange(len(drawn.rounds)), chosen]
    return Regret(float(regret[drawn.numbers <= FIRST].sum()), float(regret.sum()))


def measure_peers(
    python: Path, directory: Path, drawings: Sequence[tuple[Stream, int]], workers: Executor
) -> list[dict[str, Regret]]:
    """Return the regrets of other libraries on streams, in order.

    Args:
        python: of an environment with the libraries; see peers.py.
        directory: an empty one, for the streams and the decisions.
        drawings: streams, and their seeds.
        workers: to write and read with.
    """
    names = [str(directory / f"{place:03}.stream.npz") for place in range(len(drawings))]
    streams, seeds = zip(*drawings, strict=True)
    list(workers.map(_write, names, streams, seeds))
    subprocess.run([python, _PEERS, directory], check=True)  # noqa: S603 - a script of this package
    return list(workers.map(_read, names, streams, seeds))


def _write(name: str, stream: Stream, seed: int) -> None:
    drawn = draw(stream, seed)
    np.savez(
        name,
        rounds=drawn.rounds,
        users=drawn.users,
        known=drawn.known,
        hours=drawn.hours,
        is_overdue=drawn.is_overdue,
        age=drawn.age,
        priority=drawn.priority,
        rewards=drawn.rewards,
        draws=drawn.seeds * 2.0**-63,
        X=play.encode(play.load(LINUCB), drawn),
    )


def _read(name: str, stream: Stream, seed: int) -> dict[str, Regret]:
    drawn = draw(stream, seed)
    with np.load(name.replace(".stream.", ".chosen.")) as chosen:
        return {peer: add_regret(drawn, rows) for peer, rows in chosen.items()}
