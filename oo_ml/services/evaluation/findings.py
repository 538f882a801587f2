"""What a log says of a target policy, and when it says nothing: an evaluation that can't be trusted is refused."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from oo_ml.domain.evaluation import estimators
from oo_ml.domain.evaluation.estimators import Estimate, Summary
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import EvaluationRefusedError, NothingToEvaluateError
from oo_ml.settings import Settings

# The most of what a target would show that may have had no chance in the log.
MAX_WITHOUT_SUPPORT: Final = 0.01
# A mean weight that is further away from 1 than this, by so many standard errors, is no chance.
_WEIGHT_OFF: Final = 0.01
_STANDARD_ERRORS: Final = 4.0
_EXPLORATION: Final = {LINUCB: Settings.variable("exploration"), EPSILON_GREEDY: Settings.variable("epsilon")}
_NOTHING: Final = estimators.summarise(np.empty(0), np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What was found in part of a log.

    Attributes:
        states: how many states its people have.
        summary: of the decisions evaluated.
        unrewarded: decisions without a reward that counts.
        unexplained: decisions that have one, but don't say how likely each candidate was.
        unwritten: decisions among whose tips, as far as anybody knows, none is by the prompt version asked for.
        without_support: by policy, how likely the target was to choose what had no chance, summed up over decisions.
        is_random: whether any decision could have been another.
    """

    states: int = 0
    summary: Summary = _NOTHING
    unrewarded: int = 0
    unexplained: int = 0
    unwritten: int = 0
    without_support: Mapping[str, float] = field(default_factory=dict)
    is_random: bool = False

    def __add__(self, other: "Part") -> "Part":
        return Part(
            self.states + other.states,
            estimators.merge(self.summary, other.summary),
            self.unrewarded + other.unrewarded,
            self.unexplained + other.unexplained,
            self.unwritten + other.unwritten,
            # Keeps what is above 0.
            Counter(self.without_support) + Counter(other.without_support),
            self.is_random or other.is_random,
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a log says of a target: see domain/evaluation/estimators.py.

    Attributes:
        n: decisions evaluated.
        unrewarded: decisions that have no reward that counts.
        left_out: other decisions that say nothing.
        ess: effective sample size.
        share_without_support: of what the target would show, what had no chance in the log; None where nobody can tell.
        observed: what the log's own policy earned.
        dr: None without a model of the reward.
        gain: of the target over the log's own policy.
        is_off: whether the mean weight is too far from 1 for chance.
    """

    n: int
    unrewarded: int
    left_out: int
    ess: float
    max_weight: float
    mean_weight: float
    share_without_support: float | None
    observed: Estimate
    ips: Estimate
    snips: Estimate
    dr: Estimate | None
    gain: Estimate
    is_off: bool


def conclude(name: str, found: Part) -> Evaluation:
    """Return what the whole of the service's log says of the target `name`.

    Raises:
        NothingToEvaluateError: there is no decision that says anything.
        EvaluationRefusedError: the log can't support the target.
    """
    if not found.summary.n:
        reasons = {
            "without a reward": found.unrewarded,
            "that don't say how likely each candidate was": found.unexplained,
            "without a tip by that version": found.unwritten,
        }
        seen = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
        raise NothingToEvaluateError(f"The log holds no decision to evaluate{seen and f', only {seen}'}")
    share = sum(found.without_support.values()) / found.summary.n
    if share > MAX_WITHOUT_SUPPORT:
        variables = " and ".join(f"{_EXPLORATION[policy]} ({policy})" for policy in sorted(found.without_support))
        why = "some of it has" if found.is_random else "its policy is deterministic, and others have"
        raise EvaluationRefusedError(
            f"The log can't tell what {name} would earn: {why} no chance to be shown there, {share:.1%} of what"
            f" {name} would show. Set {variables} above 0, and where decisions were drawn at random only later, say"
            " --since when"
        )
    return evaluation(name, found, share)


def evaluation(name: str, found: Part, share_without_support: float | None) -> Evaluation:
    """Return what a log with n > 0 says of the target `name`, which it supports as far as that is known.

    Raises:
        EvaluationRefusedError: the target would have chosen nothing of what was chosen.
    """
    summary = found.summary
    snips, gain = estimators.snips(summary), estimators.gain(summary)
    if snips is None or gain is None:
        raise EvaluationRefusedError(
            f"The log can't tell what {name} would earn: it would choose nothing of what was chosen there (decisions"
            f" {summary.n})"
        )
    off = estimators.weight_off(summary)
    return Evaluation(
        n=summary.n,
        unrewarded=found.unrewarded,
        left_out=found.unexplained + found.unwritten,
        ess=estimators.effective_sample_size(summary),
        max_weight=summary.max_weight,
        mean_weight=summary.mean_weight,
        share_without_support=share_without_support,
        observed=estimators.observed(summary),
        ips=estimators.ips(summary),
        snips=snips,
        dr=estimators.dr(summary),
        gain=gain,
        is_off=off is not None and off > _STANDARD_ERRORS and abs(summary.mean_weight - 1) > _WEIGHT_OFF,
    )
