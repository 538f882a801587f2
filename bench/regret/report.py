"""The figures of regret as Markdown, which docs/quality.md keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.regret.measure import FIRST, Measured, Regret
from bench.regret.play import POOLED, UNIFORM
from bench.regret.streams import Stream
from bench.tables import format_table
from oo_ml.domain.policies import LINUCB

# The stream on which beliefs are compared with the truth, and the share of 95 % intervals that may hold it.
_CALIBRATED: Final = "half"
_COVERAGE: Final = (0.92, 0.98)


@dataclass(frozen=True, slots=True)
class Row:
    """A stream, drawn from several seeds.

    Attributes:
        regrets: of each policy and library, the mean over the seeds.
        covered: the mean over the seeds; see Measured.
    """

    stream: Stream
    regrets: Mapping[str, Regret]
    covered: float

    @property
    def left(self) -> Regret:
        """The regret of pooled-v1 as a share of LinUCB's."""
        pooled, linucb = self.regrets[POOLED], self.regrets[LINUCB]
        return Regret(pooled.first / linucb.first, pooled.overall / linucb.overall)

    @property
    def is_met(self) -> bool:
        """True if the limits of the stream are kept."""
        is_calibrated = self.stream.name != _CALIBRATED or _COVERAGE[0] <= self.covered <= _COVERAGE[1]
        return self.left.first <= self.stream.limit and is_calibrated


def average(stream: Stream, measured: Sequence[Measured], peers: Sequence[Mapping[str, Regret]]) -> Row:
    """Return the means over the seeds; `peers` has the regrets of other libraries for each seed, if they were asked."""
    every = [{**one.regrets, **other} for one, other in zip(measured, peers, strict=True)]
    regrets = {name: Regret(*np.mean([one[name] for one in every], axis=0).tolist()) for name in every[0]}
    return Row(stream, regrets, float(np.mean([one.covered for one in measured])))


def markdown(rows: Sequence[Row], seeds: int) -> str:
    """Return the whole report."""
    limits = [
        (
            one.stream.name,
            f"{one.left.first:.2f}",
            f"{one.stream.limit:.2f}",
            "yes" if one.left.first <= one.stream.limit else "no",
            f"{one.left.overall:.2f}",
        )
        for one in rows
    ]
    names = [name for name in rows[0].regrets if name not in {POOLED, UNIFORM}]
    shares = [
        [one.stream.name, *(f"{one.regrets[name].first / one.regrets[UNIFORM].first:.2f}" for name in (POOLED, *names))]
        for one in rows
    ]
    parts = [
        format_table(
            (f"{POOLED} over {LINUCB}, seeds 1 to {seeds}", f"first {FIRST}", "at most", "met", "all decisions"), limits
        ),
        format_table((f"share of {UNIFORM}, first {FIRST}", POOLED, *names), shares),
    ]
    parts += [
        f"On {one.stream.name}, {one.covered:.1%} of the 95 % intervals about the chosen candidate hold its expected"
        f" reward ({_COVERAGE[0]:.0%} to {_COVERAGE[1]:.0%} are right)."
        for one in rows
        if one.stream.name == _CALIBRATED
    ]
    return "\n\n".join(parts) + "\n"
