"""Logged decisions as arrays: candidates, their features and the probabilities with which they were chosen.

A client may list a tip twice among the candidates of a decision. The probabilities of its rows then add up, as they do
in the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.ridge import Ridge

# Sums and scores differ in the last bits between machines.
_ROUNDING = 1e-9
_SOLVING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class DecisionBlock:
    """m decisions by one policy, with n candidates in all, those of the first decision first.

    Attributes:
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
    """

    models: Ridge
    which: Sequence[int]
    counts: Sequence[int]
    X: NDArray[np.float64]
    tips: NDArray[np.intp]
    is_chosen: NDArray[np.bool_]
    propensities: NDArray[np.float64]
    versions: Sequence[str | None]
    version_probabilities: NDArray[np.float64]

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


def find_mismatches(
    block: DecisionBlock,
    exploit: NDArray[np.float64],
    x: NDArray[np.float64],
    propensity: NDArray[np.float64],
    logged_exploit: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return, shape (m,), whether a decision's logged x, propensity or exploit disagrees with the rebuilt values.

    Args:
        block: the rebuilt decisions.
        exploit: theta.x of the candidates by the rebuilt models, shape (n,).
        x: the logged features of the chosen tip, shape (m, d).
        propensity: the logged probability of the chosen tip, shape (m,).
        logged_exploit: the logged theta.x of each candidate, shape (n,).
    """
    same_x = block.is_chosen & (np.repeat(x, block.counts, axis=0) == block.X).all(axis=1)
    rebuilt = np.minimum(block.sum_chosen(block.propensities), 1.0)
    other_exploit = ~(np.abs(exploit - logged_exploit) <= _SOLVING * (1 + np.abs(logged_exploit)))
    wrong: NDArray[np.bool_] = block.sum_by_decision(same_x.astype(np.float64)) == 0
    wrong |= ~(np.abs(rebuilt - propensity) <= _ROUNDING)
    return wrong | (block.sum_by_decision(other_exploit.astype(np.float64)) > 0)


def _sum_groups(groups: NDArray[np.intp], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    # bincount adds in order, as Python would. numpy documents the order of no other sum.
    return np.bincount(groups, values, size).astype(np.float64, copy=False)
