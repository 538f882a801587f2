"""Logged decisions as arrays: candidates, their features and the probabilities with which they were chosen.

A client may list a tip twice among the candidates of a decision. The probabilities of its rows then add up, as they do
in the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain import policies
from oo_ml.domain.policies import Rule
from oo_ml.domain.ridge import Ridge, score_part

# Sums and scores differ in the last bits between machines.
_ROUNDING = 1e-9
_SOLVING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class DecisionBlock:
    """m decisions by one policy and rule, with n candidates in all, those of the first decision first.

    Attributes:
        rule: the rule that made them.
        models: the models that made the decisions, a stack of k.
        which: the index of each decision's model, m numbers below k.
        counts: the number of candidates of each decision, m numbers >= 1.
        X: features of the candidates, shape (n, d).
        tips: the tip of each candidate, as the first row of its decision with the same tip, shape (n,).
        is_chosen: whether the candidate is the tip that was chosen, shape (n,).
        propensities: the probability with which the log's policy chose each candidate, shape (n,).
        versions: the prompt version of each candidate, None if unknown, n of them.
        version_probabilities: the probability with which the version of the chosen tip was drawn; NaN if it was not
            drawn, or if that is unknown, shape (m,).
        prior_b: the part of each model's b that its prior gave, shape (k, d); None unless it is pooled.
    """

    rule: Rule
    models: Ridge
    which: Sequence[int]
    counts: Sequence[int]
    X: NDArray[np.float64]
    tips: NDArray[np.intp]
    is_chosen: NDArray[np.bool_]
    propensities: NDArray[np.float64]
    versions: Sequence[str | None]
    version_probabilities: NDArray[np.float64]
    prior_b: NDArray[np.float64] | None = None

    @property
    def decisions(self) -> NDArray[np.intp]:
        """The decision of each candidate, shape (n,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def sum_by_decision(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of `values`, shape (n,), over the candidates of each decision, in order; shape (m,)."""
        return _sum_groups(self.decisions, values, len(self.counts))

    def sum_chosen(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of `values`, shape (n,), over the rows of each decision's chosen tip, shape (m,)."""
        return self.sum_by_decision(np.where(self.is_chosen, values, 0.0))

    def sum_by_tip(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return, for each candidate, the sum of `values` over all rows with the same tip, shape (n,)."""
        return _sum_groups(self.tips, values, len(self.tips))[self.tips]


def find_first_rows(tip_ids: Sequence[str]) -> Sequence[int]:
    """Return, for each candidate of one decision, the first row with the same tip."""
    if len(set(tip_ids)) == len(tip_ids):
        return range(len(tip_ids))
    first: dict[str, int] = {}
    return [first.setdefault(tip_id, row) for row, tip_id in enumerate(tip_ids)]


class Mismatch(NamedTuple):
    """A number in the log of a decision that is not the recomputed one.

    Attributes:
        decision: the index of the decision in its block.
        column: the column of feature_history; tip_id: the tip is not among the candidates.
        place: the index in the column; None: the column is one value.
    """

    decision: int
    column: str
    place: int | None = None
    expected: float = np.nan
    found: float = np.nan


def find_mismatch(
    block: DecisionBlock,
    x: NDArray[np.float64],
    propensity: NDArray[np.float64],
    exploit: NDArray[np.float64],
    prior_score: NDArray[np.float64] | None = None,
) -> Mismatch | None:
    """Return the first number of the log that contradicts the rebuilt decisions; None if there is none.

    x must be equal bit for bit. Other numbers may differ as machines round: exploit and prior_score by a part in a
    million, and a propensity by 1e-9. Candidates whose scores tie may have had each other's share.

    Args:
        block: the rebuilt decisions, with the propensities of the log.
        x: the logged features of the chosen tip, shape (m, d).
        propensity: the logged probability of the chosen tip, shape (m,).
        exploit: the logged theta.x of each candidate, shape (n,).
        prior_score: the logged part of theta.x of the chosen tip that the prior gave, shape (m,), NaN if it is absent;
            None unless it is pooled.
    """
    again = policies.recompute(block.rule, block.models, block.which, block.X, block.counts, _SOLVING)
    # fmax and fmin pass over NaN.
    nearest = np.fmin(np.fmax(block.propensities, again.least), again.most)
    same_x = block.is_chosen & (np.repeat(x, block.counts, axis=0).view(np.uint64) == block.X.view(np.uint64)).all(
        axis=1
    )
    chosen = np.minimum(block.sum_chosen(block.propensities), 1.0)
    sums = block.sum_by_decision(block.propensities)
    if prior_score is None:
        prior_score = np.zeros(len(x))
    of_prior = np.zeros(len(x)) if block.prior_b is None else score_part(block.models, block.prior_b, block.which, x)
    # Comparisons are negated, because NaN is a mismatch.
    wrong_prior = ~_are_close(of_prior, prior_score)
    wrong_exploit = ~_are_close(again.exploit, exploit)
    wrong_propensities = ~(np.abs(nearest - block.propensities) <= _ROUNDING)
    wrong = block.sum_by_decision((wrong_exploit | wrong_propensities).astype(np.float64)) > 0
    wrong |= ~(np.abs(sums - 1) <= _ROUNDING) | ~(np.abs(chosen - propensity) <= _ROUNDING)
    wrong |= (block.sum_by_decision(same_x.astype(np.float64)) == 0) | wrong_prior
    if not wrong.any():
        return None
    decision = int(wrong.argmax())
    own = block.decisions == decision
    rows = np.flatnonzero(own & block.is_chosen)
    if not len(rows):
        return Mismatch(decision, "tip_id")
    if not same_x[rows].any():
        place = int((x[decision].view(np.uint64) != block.X[rows[0]].view(np.uint64)).argmax())
        return Mismatch(decision, "x", place, float(block.X[rows[0], place]), float(x[decision, place]))
    start = int(own.argmax())
    for column, different, expected, found in (
        ("exploit", wrong_exploit, again.exploit, exploit),
        ("propensities", wrong_propensities, nearest, block.propensities),
    ):
        if (own & different).any():
            row = int((own & different).argmax())
            return Mismatch(decision, column, row - start, float(expected[row]), float(found[row]))
    column, expected_one, found_one = "propensity", chosen[decision], propensity[decision]
    if wrong_prior[decision]:
        column, expected_one, found_one = "prior_score", of_prior[decision], prior_score[decision]
    elif abs(sums[decision] - 1) > _ROUNDING:
        # Each is possible, but not all together.
        column, expected_one, found_one = "sum of propensities", 1.0, sums[decision]
    return Mismatch(decision, column, None, float(expected_one), float(found_one))


def _are_close(expected: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.bool_]:
    close: NDArray[np.bool_] = np.abs(expected - found) <= _SOLVING * (1 + np.abs(found))
    return close


def _sum_groups(groups: NDArray[np.intp], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    # bincount adds in order, as Python would. numpy documents the order of no other sum.
    return np.bincount(groups, values, size).astype(np.float64, copy=False)
