"""Lets two other libraries decide on streams: MABWiser's LinUCB, and Vowpal Wabbit's ensemble and SquareCB.

A script for an environment of its own, without this package: `python peers.py DIRECTORY` reads each *.stream.npz there
and writes the candidates that each library chose to *.chosen.npz.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

# Arrays of a stream, by name; see bench/regret/streams.py.
Stream = dict[str, np.ndarray[Any, Any]]

# A linear model: shared weights of the candidate's fields and of their products with the hour, and for each user
# deviations of the candidate's weights.
_FEATURES: Final = "--interactions ua --interactions ha --quiet --random_seed 1"


class Player(Protocol):
    """Decides on a stream."""

    def decide(self, row: int) -> int:
        """Return the index of the candidate chosen for a decision."""

    def learn(self, row: int) -> None:
        """Learn the reward of a decision made."""


class Mabwiser:
    """LinUCB with one model a user: a bandit with one arm, whose contexts are the candidates."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._models: dict[int, Any] = {}
        self._chosen: dict[int, int] = {}

    def decide(self, row: int) -> int:
        """See Player."""
        scores = self._model(row).predict_expectations(self._stream["X"][row])
        self._chosen[row] = int(np.argmax([one[0] for one in scores]))
        return self._chosen[row]

    def learn(self, row: int) -> None:
        """See Player."""
        chosen = self._chosen[row]
        self._model(row).partial_fit([0], [self._stream["rewards"][row, chosen]], self._stream["X"][row, [chosen]])

    def _model(self, row: int) -> Any:  # noqa: ANN401 - of a library without types
        from mabwiser.mab import MAB, LearningPolicy  # noqa: PLC0415 - two seconds, and not for the other player

        user = int(self._stream["users"][row])
        if user not in self._models:
            self._models[user] = MAB([0], LearningPolicy.LinUCB(alpha=1, l2_lambda=1))
            # It predicts after data only; a row of zeros changes no sum.
            self._models[user].fit([0], [0.0], np.zeros((1, self._stream["X"].shape[2])))
        return self._models[user]


class VowpalWabbit:
    """A contextual bandit for all users, with their ids among the features."""

    def __init__(self, exploration: str, stream: Stream) -> None:
        import vowpalwabbit  # noqa: PLC0415 - not for the other player

        self._model = vowpalwabbit.Workspace(f"--cb_explore_adf {exploration} {_FEATURES}")
        self._stream = stream
        self._examples: dict[int, list[str]] = {}
        self._chosen: dict[int, tuple[int, float]] = {}

    def decide(self, row: int) -> int:
        """See Player."""
        self._examples[row] = list(self._describe(row))
        probabilities = np.array(self._model.predict(self._examples[row]))
        place = np.searchsorted(np.cumsum(probabilities / probabilities.sum()), self._stream["draws"][row], "right")
        chosen = min(int(place), len(probabilities) - 1)
        self._chosen[row] = chosen, float(probabilities[chosen])
        return chosen

    def learn(self, row: int) -> None:
        """See Player."""
        lines, (chosen, probability) = self._examples.pop(row), self._chosen[row]
        cost = -float(self._stream["rewards"][row, chosen])
        lines[chosen + 1] = f"0:{cost}:{probability} {lines[chosen + 1]}"
        self._model.learn(lines)

    def _describe(self, row: int) -> Iterator[str]:
        """Yield the lines of a decision: what its candidates share, and each candidate."""
        stream = self._stream
        angle = 2 * np.pi * stream["hours"][row] / 24
        yield f"shared |u user{stream['users'][row]} |h sin:{np.sin(angle):.6f} cos:{np.cos(angle):.6f}"
        for fields in zip(stream["is_overdue"][row], stream["age"][row], stream["priority"][row], strict=True):
            is_overdue, age, priority = (float(one) for one in fields)
            yield f"|a is_overdue:{is_overdue:g} age:{age / 30:.6f} priority:{(priority - 1) / 3:.6f}"


PLAYERS: Final[dict[str, Callable[[Stream], Player]]] = {
    "MABWiser LinUCB": Mabwiser,
    "VW bag": lambda stream: VowpalWabbit("--bag 5", stream),
    "VW SquareCB": lambda stream: VowpalWabbit("--squarecb", stream),
}


def play(player: Player, stream: Stream) -> Sequence[int]:
    """Return the index of the candidate chosen for each decision; a reward is learned when it is known."""
    known = defaultdict(list)
    for row, number in enumerate(stream["known"].tolist()):
        known[number].append(row)
    chosen = []
    for row, number in enumerate(stream["rounds"].tolist()):
        for due in known.pop(number, ()):
            player.learn(due)
        chosen.append(player.decide(row))
    return chosen


def decide(path: Path) -> None:
    """Write the candidates that each library chooses on the stream in a file."""
    with np.load(path) as arrays:
        stream = dict(arrays)
    chosen = {name: np.array(play(make(stream), stream)) for name, make in PLAYERS.items()}
    np.savez(path.with_name(path.name.replace(".stream.", ".chosen.")), allow_pickle=False, **chosen)


def main(directory: Path) -> None:
    """Decide on every stream in a directory."""
    with ProcessPoolExecutor() as workers:
        list(workers.map(decide, sorted(directory.glob("*.stream.npz"))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
