"""The measurements, round by round: two that are compared are made right after each other."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final

from rich.console import Console

from bench import load, pgbench
from bench.errors import FailedRunError
from bench.figures import Figures
from bench.load import Call, Target
from bench.pgbench import Reference
from bench.plan import Plan
from oo_ml.progress import progress

_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything there is to measure, and for how many seconds at a time.

    Attributes:
        guarded: a second service on the small database, whose calls need an API key.
        bare: a third one, without all that stands in front of the calls.
    """

    small: Target
    guarded: Target
    bare: Target
    large: Target
    reference: Reference
    seconds: int


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """A measurement.

    Attributes:
        name: for the table.
        has_target: whether a target depends on it, so that it is made in every round.
    """

    name: str
    clients: int
    run: Callable[[Stage], Figures]
    has_target: bool = False


@dataclass(frozen=True, slots=True)
class Results:
    """The figures by round, and the reasons for missing ones."""

    figures: dict[Measure, dict[int, Figures]] = field(default_factory=dict)
    failures: dict[Measure, str] = field(default_factory=dict)

    def of(self, measure: Measure) -> dict[int, Figures]:
        """Return the figures of a measurement by round; none if it failed in any."""
        return {} if measure in self.failures else self.figures.get(measure, {})


def _service(
    name: str,
    clients: int,
    *calls: Call,
    is_hot: bool = False,
    on: Callable[[Stage], Target] = attrgetter("small"),
    has_target: bool = False,
) -> Measure:
    def run(stage: Stage) -> Figures:
        return load.run(on(stage), calls, clients=clients, seconds=stage.seconds, is_hot=is_hot)

    return Measure(name, clients, run, has_target)


def _pgbench_score(clients: int, *, is_hot: bool = False) -> Measure:
    def run(stage: Stage) -> Figures:
        return pgbench.score(stage.reference, clients=clients, seconds=stage.seconds, is_hot=is_hot)

    return Measure("pgbench: score, one hot user" if is_hot else "pgbench: score", clients, run, has_target=True)


def _pgbench_reward(clients: int, *, has_target: bool = False) -> Measure:
    def run(stage: Stage) -> Figures:
        return pgbench.reward(stage.reference, clients=clients, seconds=stage.seconds)

    return Measure("pgbench: reward", clients, run, has_target)


BATCH: Final = _service("/score/batch of 100", 4, load.score_batch(100), has_target=True)
REFERENCE: Final = _pgbench_score(32)
SCORE: Final = _service("score", 32, load.score(), has_target=True)
GUARDED: Final = _service("score, with an API key", 32, load.score(), on=attrgetter("guarded"), has_target=True)
BARE: Final = _service("score, without keys and metrics", 32, load.score(), on=attrgetter("bare"), has_target=True)
LARGE: Final = _service("score, large database", 32, load.score(), on=attrgetter("large"), has_target=True)
HOT: Final = _service("score, one hot user", 32, load.score(), is_hot=True, has_target=True)
REFERENCE_HOT: Final = _pgbench_score(32, is_hot=True)
REFERENCE_REWARD: Final = _pgbench_reward(32, has_target=True)
REWARD: Final = _service("reward", 32, load.reward(), has_target=True)
REFERENCE_ALONE: Final = _pgbench_score(1)
SCORE_ALONE: Final = _service("score", 1, load.score(), has_target=True)

_MIX: Final = (load.score(), load.reward())

# In the order in which they are made.
ROUND: Final = (
    BATCH,
    REFERENCE,
    SCORE,
    GUARDED,
    BARE,
    LARGE,
    HOT,
    REFERENCE_HOT,
    REFERENCE_REWARD,
    REWARD,
    REFERENCE_ALONE,
    SCORE_ALONE,
    _service("score", 8, load.score()),
    _service("score", 128, load.score()),
    _pgbench_reward(1),
    _service("reward", 1, load.reward()),
    _service("reward", 8, load.reward()),
    _service("reward", 128, load.reward()),
    _service("score and reward, half each", 1, *_MIX),
    _service("score and reward, half each", 8, *_MIX),
    _service("score and reward, half each", 32, *_MIX),
    _service("score and reward, half each", 128, *_MIX),
    _service("score, 100 candidates", 32, load.score(100)),
    _service("score, 1,000 candidates", 32, load.score(1000)),
    _service("/score/batch of 1,000", 2, load.score_batch(1000)),
    _service("/reward/batch of 100", 4, load.reward_batch(100)),
    _service("/reward/batch of 1,000", 2, load.reward_batch(1000)),
)


def measure(stage: Stage, plan: Plan, console: Console) -> Results:
    """Make every measurement as often as `plan` says, after a short one of each target that is not counted."""
    results = Results()
    rounds = [
        (number, one) for number in range(plan.rounds) for one in ROUND if one.has_target or number % plan.every == 0
    ]
    warm_up = replace(stage, seconds=1)
    with progress(console.file, "Measuring", len(rounds), lines=_LINES) as advance:
        for one in (REFERENCE, SCORE, GUARDED, BARE, LARGE, REWARD):
            _measure(one, warm_up, Results(), 0, console)
        for number, one in rounds:
            _measure(one, stage, results, number, console)
            advance(1)
    return results


def _measure(one: Measure, stage: Stage, results: Results, number: int, console: Console) -> None:
    try:
        results.figures.setdefault(one, {})[number] = one.run(stage)
    except FailedRunError as error:
        results.failures[one] = str(error)
        console.print(f"{one.name}, {one.clients} clients: {error}", style="red", markup=False, soft_wrap=True)
