"""Results of an evaluation: partial sums, the estimates, and the refusal of estimates that the log can't support."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from oo_ml.domain.evaluation import estimators
from oo_ml.domain.evaluation.estimators import Estimate, Summary
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import EvaluationRefusedError, NothingToEvaluateError
from oo_ml.services.evaluation.doubts import Doubt, compute_largest_share, find_doubts
from oo_ml.settings import Settings

# An evaluation is refused if more than this share of the target's tips had propensity 0 in the log.
MAX_WITHOUT_SUPPORT: Final = 0.01
_EXPLORATION: Final = {LINUCB: Settings.variable("exploration"), EPSILON_GREEDY: Settings.variable("epsilon")}
NO_DECISIONS: Final = estimators.summarise(np.empty(0), np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The result for a part of a log, with all decisions of its users; parts can be added.

    Attributes:
        states: states of the part's users.
        summary: sums over the evaluated decisions.
        unrewarded: decisions without a reward.
        unexplained: decisions with a reward but without propensities.
        unwritten: decisions without a candidate that the target's prompt version is known to have written.
        unreadable: by field, decisions without a field that the target policy needs.
        priorless: decisions for which a prior version is unknown here.
        unlearned: ledger entries that the state of the target policy leaves out.
        without_support: by policy, the sum of the target's probabilities of tips with propensity 0.
        is_random: whether any decision had a propensity below 1.
    """

    states: int = 0
    summary: Summary = NO_DECISIONS
    unrewarded: int = 0
    unexplained: int = 0
    unwritten: int = 0
    unreadable: Mapping[str, int] = field(default_factory=dict)
    priorless: int = 0
    unlearned: int = 0
    without_support: Mapping[str, float] = field(default_factory=dict)
    is_random: bool = False

    def __add__(self, other: "Part") -> "Part":
        return Part(
            self.states + other.states,
            estimators.merge(self.summary, other.summary),
            self.unrewarded + other.unrewarded,
            self.unexplained + other.unexplained,
            self.unwritten + other.unwritten,
            Counter(self.unreadable) + Counter(other.unreadable),
            self.priorless + other.priorless,
            self.unlearned + other.unlearned,
            # Adding Counters drops the policies with 0.
            Counter(self.without_support) + Counter(other.without_support),
            self.is_random or other.is_random,
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The estimates for a target; see domain/evaluation/estimators.py.

    Attributes:
        n: decisions evaluated.
        users: users that made them, the sample of the intervals; None if the log does not name users, and each decision
            counts as a user of its own.
        unrewarded: decisions without a reward.
        left_out: other decisions that could not be evaluated.
        unreadable: by field, those of them without a field that the target policy needs.
        priorless: those of them for which a prior version is unknown here: it was deleted, or is another database's.
        unlearned: ledger entries that the state of the target policy leaves out: without a decision, imports, of
            decisions past retention or in `unreadable`.
        ess: effective sample size.
        share_without_support: the share of the target's tips that had propensity 0 in the log; None if unknown.
        observed: the mean reward of the log's own policy.
        dr: the doubly robust estimate; None without a model of the reward.
        gain: the target's reward, by dr or else snips, minus that of the log's own policy.
        largest_share: the share of all weight that one decision has, at most.
        doubts: the reasons to doubt the estimates; empty if there are none.
    """

    n: int
    users: int | None
    unrewarded: int
    left_out: int
    unreadable: Mapping[str, int]
    priorless: int
    unlearned: int
    ess: float
    max_weight: float
    mean_weight: float
    share_without_support: float | None
    observed: Estimate
    dr: Estimate | None
    gain: Estimate
    snips: Estimate
    ips: Estimate
    largest_share: float
    doubts: Sequence[Doubt]


def conclude(name: str, total: Part) -> Evaluation:
    """Return the estimates for the target `name` from the sum of all parts of the service's log.

    Raises:
        NothingToEvaluateError: no decision could be evaluated.
        EvaluationRefusedError: the log can't support the target.
    """
    if not total.summary.n:
        reasons = {
            "without a reward": total.unrewarded,
            "without propensities": total.unexplained,
            "without a tip of that prompt version": total.unwritten,
            "without a known prior version": total.priorless,
            **{f"without a valid {name}, which the target needs": n for name, n in sorted(total.unreadable.items())},
        }
        seen = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
        raise NothingToEvaluateError(f"The log holds no decision to evaluate{seen and f', only {seen}'}")
    share = sum(total.without_support.values()) / total.summary.n
    if share > MAX_WITHOUT_SUPPORT:
        why = "" if total.is_random else ", and no decision was drawn at random"
        raise EvaluationRefusedError(
            f"Cannot evaluate {name}: {share:.1%} of the tips it would show had propensity 0 in the log{why}."
            f" {_advise(sorted(total.without_support))} and wait for new decisions; leave out older, deterministic"
            " decisions with --since"
        )
    return estimate(name, total, share)


def _advise(policies: Sequence[str]) -> str:
    """Return how these policies get exploration: the contract's by settings, others by their definition."""
    settings = [f"{_EXPLORATION[policy]} ({policy})" for policy in policies if policy in _EXPLORATION]
    others = [policy for policy in policies if policy not in _EXPLORATION]
    advice = []
    if settings:
        advice.append(f"Set {' and '.join(settings)} above 0")
    if others:
        advice.append(
            f"{'p' if settings else 'P'}ublish a policy with rule.exploration above 0 for {' and '.join(others)}"
        )
    return ", ".join(advice)


def estimate(name: str, total: Part, share_without_support: float | None, *, has_users: bool = True) -> Evaluation:
    """Return the estimates for the target `name` from a log with n > 0, which names users or does not.

    Raises:
        EvaluationRefusedError: the target would choose none of the tips that were shown.
    """
    summary = total.summary
    ips, snips, dr = estimators.ips(summary), estimators.snips(summary), estimators.dr(summary)
    gain = estimators.gain(summary)
    if snips is None or gain is None:
        raise EvaluationRefusedError(
            f"Cannot evaluate {name}: it would choose none of the tips that the log's policy chose (decisions"
            f" {summary.n})"
        )
    users = summary.users if has_users else None
    return Evaluation(
        n=summary.n,
        users=users,
        unrewarded=total.unrewarded,
        left_out=total.unexplained + total.unwritten + total.priorless + sum(total.unreadable.values()),
        unreadable=dict(total.unreadable),
        priorless=total.priorless,
        unlearned=total.unlearned,
        ess=estimators.effective_sample_size(summary),
        max_weight=summary.max_weight,
        mean_weight=summary.mean_weight,
        share_without_support=share_without_support,
        observed=estimators.observed(summary),
        dr=dr,
        gain=gain,
        snips=snips,
        ips=ips,
        largest_share=compute_largest_share(summary),
        doubts=tuple(find_doubts(summary, users, {"DR": dr, "SNIPS": snips, "IPS": ips})),
    )
