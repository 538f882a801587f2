"""Decisions of the past, as their log has them: what was offered, and how likely each candidate was to be chosen.

What is known of a tip is known of all rows that offer it: clients may offer one twice, and the probabilities of its
rows add up, as they do in the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.ridge import Ridge

# What is stored of a sum and of a score comes out the same on another machine but for the last bits.
_ROUNDING = 1e-9
_SOLVING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Offers:
    """m decisions by one policy, with n candidates in all, those of the first decision first.

    Attributes:
        models: those that the decisions were made from, a stack of k.
        which: the model of each decision, m numbers below k.
        counts: how many candidates each decision has, m numbers >= 1.
        X: features of the candidates, shape (n, d).
        tips: the tip of each candidate, as the first row of its decision that offers it, shape (n,).
        is_shown: whether it offers the tip that was chosen, shape (n,).
        logged: the probability with which each candidate was to be chosen, shape (n,).
        versions: the prompt version that wrote each candidate's tip, n of them, None where nobody knows.
        version_probabilities: the probability with which the version of the tip chosen was drawn when that was
            written, NaN where it was not drawn or nobody knows, shape (m,).
    """

    models: Ridge
    which: Sequence[int]
    counts: Sequence[int]
    X: NDArray[np.float64]
    tips: NDArray[np.intp]
    is_shown: NDArray[np.bool_]
    logged: NDArray[np.float64]
    versions: Sequence[str | None]
    version_probabilities: NDArray[np.float64]

    @property
    def decisions(self) -> NDArray[np.intp]:
        """The decision of each candidate, shape (n,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of each decision's rows of `values`, shape (m,); rows are added up in their order."""
        return _binned(self.decisions, values, len(self.counts))

    def of_shown(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of those rows of `values` that offer the tip that was chosen, shape (m,)."""
        return self.sums(np.where(self.is_shown, values, 0.0))

    def of_tips(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each row the sum over all rows that offer the same tip, shape (n,)."""
        return _binned(self.tips, values, len(self.tips))[self.tips]


def first_places(names: Sequence[str]) -> Sequence[int]:
    """Return for each of one decision's tips the first place at which it is offered."""
    if len(set(names)) == len(names):
        return range(len(names))
    first: dict[str, int] = {}
    return [first.setdefault(name, place) for place, name in enumerate(names)]


def contradicted(
    offers: Offers,
    exploit: NDArray[np.float64],
    x: NDArray[np.float64],
    propensities: NDArray[np.float64],
    logged_exploit: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Tell of each decision whether its log says otherwise: shape (m,).

    Args:
        offers: the decisions, as they were put together again.
        exploit: theta.x of the candidates by the models put together again, shape (n,).
        x: the log's features of what was chosen, shape (m, d).
        propensities: the log's probability of the tip that was chosen, shape (m,).
        logged_exploit: the log's theta.x of each candidate, shape (n,).
    """
    same = offers.is_shown & (np.repeat(x, offers.counts, axis=0) == offers.X).all(axis=1)
    as_likely = np.abs(np.minimum(offers.of_shown(offers.logged), 1.0) - propensities) <= _ROUNDING
    as_good = np.abs(exploit - logged_exploit) <= _SOLVING * (1 + np.abs(logged_exploit))
    wrong: NDArray[np.bool_] = (offers.sums(same.astype(np.float64)) == 0) | ~as_likely
    return wrong | (offers.sums((~as_good).astype(np.float64)) > 0)


def _binned(places: NDArray[np.intp], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    # One after the other, as Python would add them up; no other sum of numpy's says in which order it adds.
    return np.bincount(places, values, size).astype(np.float64, copy=False)
