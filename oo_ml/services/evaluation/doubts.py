"""Reasons to doubt an evaluation: too few decisions or users carry it, or its estimators contradict each other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Final

from oo_ml.domain.evaluation import estimators
from oo_ml.domain.evaluation.estimators import Estimate, Summary

# Below this effective sample size the distribution of an estimate can be far from normal.
LEAST_SAMPLE: Final = 100
# With fewer users than these, intervals from totals of users are too narrow if some users decide much more often than
# others: Cameron, Gelbach, Miller (2008), "Bootstrap-Based Improvements for Inference with Clustered Errors".
LEAST_USERS: Final = 20
# One decision that carries more than this share of the weights can move the estimate by itself.
MOST_OF_ONE: Final = 0.1
# The mean weight is off if it differs from 1 by more than this, and by more than so many standard errors.
_WEIGHT_OFF: Final = 0.01
_STANDARD_ERRORS: Final = 4.0
# Numbers that differ by less than this part of them differ by rounding.
_ROUNDING: Final = 1e-9


class DoubtKind(StrEnum):
    """The kind of a doubt."""

    SMALL_SAMPLE = "small_sample"
    FEW_USERS = "few_users"
    DOMINANT_DECISION = "dominant_decision"
    ESTIMATORS_DISAGREE = "estimators_disagree"
    MEAN_WEIGHT = "mean_weight"


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason, as a sentence without its full stop."""

    kind: DoubtKind
    reason: str


def compute_largest_share(summary: Summary) -> float:
    """Return the share of the sum of weights that the decision with the largest weight has; 0 if every weight is 0."""
    return summary.max_weight / (summary.n * summary.mean_weight) if summary.mean_weight else 0.0


def find_doubts(summary: Summary, users: int | None, by_name: Mapping[str, Estimate | None]) -> Iterator[Doubt]:
    """Yield every reason to doubt the estimates of a log.

    Args:
        summary: the sums of the log.
        users: the number of users; None if the log does not name them.
        by_name: the estimates of the target's reward by the names of their estimators; None: no such estimate.
    """
    size = estimators.effective_sample_size(summary)
    if size < LEAST_SAMPLE * (1 - _ROUNDING):
        yield Doubt(
            DoubtKind.SMALL_SAMPLE,
            f"the effective sample size is {size:.1f}, below {LEAST_SAMPLE}: chance may explain the result",
        )
    if users is not None and users < LEAST_USERS:
        yield Doubt(
            DoubtKind.FEW_USERS,
            f"the log has {users} user{'' if users == 1 else 's'}, fewer than {LEAST_USERS}: the result may be theirs"
            " alone",
        )
    share = compute_largest_share(summary)
    if share > MOST_OF_ONE:
        yield Doubt(
            DoubtKind.DOMINANT_DECISION,
            f"one decision has {share:.0%} of all weight: without it the result could be another",
        )
    for (name, one), (other_name, other) in combinations(by_name.items(), 2):
        if one is not None and other is not None and _are_apart(one, other):
            yield Doubt(
                DoubtKind.ESTIMATORS_DISAGREE,
                f"the 95 % intervals of {name} and {other_name} do not overlap: the propensities or the model of the"
                " reward are wrong, or a few decisions carry the result",
            )
    off = estimators.weight_off(summary)
    if off is not None and off > _STANDARD_ERRORS and abs(summary.mean_weight - 1) > _WEIGHT_OFF:
        yield Doubt(
            DoubtKind.MEAN_WEIGHT,
            f"the mean weight is {summary.mean_weight:.4g} and should be 1: in part of the log the target's tips had"
            " no chance, or the propensities are not those that the decisions were made with",
        )


def _are_apart(one: Estimate, other: Estimate) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    gap = max(one.low - other.high, other.low - one.high)
    return gap > _ROUNDING * (1 + abs(one.estimate) + abs(other.estimate))
