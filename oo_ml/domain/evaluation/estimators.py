"""What another policy would have earned, from the log of the one that decided: IPS, SNIPS and DR with their intervals.

A log of any length is summed up block by block, and the sums are merged (Chan, Golub, LeVeque 1983, "Algorithms for
Computing the Sample Variance", equation 2.1). What is kept of squares is their root, which has all of their digits,
so that a difference of large numbers is as good as the numbers are. Decisions are taken as drawn independently.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# The 97.5th percentile of the normal distribution: intervals are of 95 %.
Z95: Final = 1.959963984540054

# Columns of a summary.
_WEIGHT, _WEIGHTED, _REWARD, _ROBUST = range(4)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean reward, as far as it can be told.

    Attributes:
        estimate: the number.
        variance: that of `estimate`; None from fewer than two decisions.
        low, high: ends of the 95 % interval, estimate -+ Z95 sqrt(variance); None where `variance` is.
    """

    estimate: float
    variance: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What n decisions say, each by its w, r and perhaps d.

    w = p_target / p_logged: how much more likely the target is to choose what was chosen. r: the reward that came.
    d = q_target + w (r - q_logged), where there is a model of the reward: it expected q_logged of what was chosen, and
    q_target of the target's choice on average.

    Attributes:
        n: how many decisions.
        mean: of w, w r, r and d, shape (4,); (3,) without d.
        root: R with R^T R = sum of (z - mean)(z - mean)^T over the decisions' z = (w, w r, r, d); as many columns as z.
        max_weight: the largest w; 0 if there is none.
    """

    n: int
    mean: NDArray[np.float64]
    root: NDArray[np.float64]
    max_weight: float

    @property
    def mean_weight(self) -> float:
        """The mean of w: but for chance it is 1, if all that the target might choose had a chance in the log."""
        return float(self.mean[_WEIGHT])

    @property
    def has_model(self) -> bool:
        """Whether there is a model of the reward."""
        return len(self.mean) > _ROBUST


def summarise(
    weights: NDArray[np.float64],
    rewards: NDArray[np.float64],
    q_logged: NDArray[np.float64] | None = None,
    q_target: NDArray[np.float64] | None = None,
) -> Summary:
    """Sum up a block of n decisions.

    Args:
        weights: w of each, >= 0, shape (n,).
        rewards: r of each, shape (n,).
        q_logged: the reward expected of what was chosen, shape (n,), if there is a model of it.
        q_target: the reward expected of the target's choice, sum over a of p_target(a) q(a), shape (n,).
    """
    weighted = weights * rewards
    columns = [weights, weighted, rewards]
    if q_logged is not None and q_target is not None:
        columns.append(q_target + (weighted - weights * q_logged))
    z = np.stack(columns)
    if not z.size:
        return Summary(0, np.zeros(len(z)), np.zeros((0, len(z))), 0.0)
    # Each column is added up in the same way: where two are the same, so are their means, to the last bit.
    mean = z.mean(axis=1)
    return Summary(len(weights), mean, _root((z.T - mean,)), float(weights.max()))


def merge(one: Summary, other: Summary) -> Summary:
    """Return the summary of the decisions of both."""
    if not one.n or not other.n:
        return one if one.n else other
    n = one.n + other.n
    apart = other.mean - one.mean
    return Summary(
        n,
        one.mean + apart * (other.n / n),
        _root((one.root, other.root, apart[np.newaxis] * math.sqrt(one.n * (other.n / n)))),
        max(one.max_weight, other.max_weight),
    )


def effective_sample_size(summary: Summary) -> float:
    """Return how many decisions of the target's own the log is worth: (sum of w)^2 / sum of w^2, at most n.

    Kong (1992), "A Note on Importance Sampling Using Standardized Weights".
    """
    if not summary.mean_weight:
        return 0.0
    mean_square = _squares(summary, {_WEIGHT: 1.0}) / summary.n + summary.mean_weight**2
    return summary.n * summary.mean_weight**2 / mean_square


def observed(summary: Summary) -> Estimate:
    """Return the mean of r, which the log's own policy earned.

    Its variance is s^2 / n, s^2 the variance of r as of a sample (n - 1).
    """
    return _of_columns(summary, float(summary.mean[_REWARD]), {_REWARD: 1.0})


def ips(summary: Summary) -> Estimate:
    """Return inverse propensity scoring, the mean of w r; without bias where every w has a chance.

    Its variance is s^2 / n, s^2 the variance of w r as of a sample (n - 1). Horvitz and Thompson (1952), "A
    Generalization of Sampling Without Replacement From a Finite Universe".
    """
    return _of_columns(summary, float(summary.mean[_WEIGHTED]), {_WEIGHTED: 1.0})


def snips(summary: Summary) -> Estimate | None:
    """Return self-normalised IPS, sum of w r / sum of w; None where every w is 0.

    Its variance, by the delta method, is sum of w^2 (r - snips)^2 / (sum of w)^2. Swaminathan and Joachims (2015), "The
    Self-Normalized Estimator for Counterfactual Learning".
    """
    if not summary.mean_weight:
        return None
    estimate = float(summary.mean[_WEIGHTED]) / summary.mean_weight
    return _of_columns(summary, estimate, _linearised(summary, estimate), ddof=0)


def dr(summary: Summary) -> Estimate | None:
    """Return the doubly robust estimate, the mean of d; None without a model of the reward.

    Without bias whatever the model says, if it has not seen the rewards that it is judged by; its variance is s^2 / n,
    s^2 the variance of d as of a sample (n - 1). Dudik, Langford, Li (2011), "Doubly Robust Policy Evaluation and
    Learning".
    """
    return _of_columns(summary, float(summary.mean[_ROBUST]), {_ROBUST: 1.0}) if summary.has_model else None


def gain(summary: Summary) -> Estimate | None:
    """Return by how much the target earns more than the log's own policy: dr, or snips without a model, less observed.

    More can be told of it than of either, since both are about the same decisions.
    """
    own = float(summary.mean[_REWARD])
    if summary.has_model:
        return _of_columns(summary, float(summary.mean[_ROBUST]) - own, {_ROBUST: 1.0, _REWARD: -1.0})
    target = snips(summary)
    if target is None:
        return None
    columns = {**_linearised(summary, target.estimate), _REWARD: -1.0}
    return _of_columns(summary, target.estimate - own, columns)


def weight_off(summary: Summary) -> float | None:
    """Return how many standard errors the mean of w is away from 1; None from fewer than two decisions.

    Far away, the log's probabilities are not those by which it was made, or what the target would choose had no chance
    in part of it. Infinite where every w is the same, but 1.
    """
    away = abs(summary.mean_weight - 1)
    variance = _of_columns(summary, summary.mean_weight, {_WEIGHT: 1.0}).variance
    if variance is None or not away:
        return None if variance is None else 0.0
    return away / math.sqrt(variance) if variance else math.inf


def _linearised(summary: Summary, ratio: float) -> dict[int, float]:
    """Return the columns whose sum varies as `ratio`, sum of w r / sum of w, does to first order: the delta method."""
    share = 1 / summary.mean_weight
    return {_WEIGHT: -ratio * share, _WEIGHTED: share}


def _of_columns(summary: Summary, estimate: float, columns: Mapping[int, float], ddof: int = 1) -> Estimate:
    """Return `estimate` with the variance of the mean of a sum of columns, each times its number."""
    if summary.n < 2:  # noqa: PLR2004 - as many as it takes to differ
        return Estimate(estimate, None, None, None)
    variance = _squares(summary, columns) / (summary.n - ddof) / summary.n
    half = Z95 * math.sqrt(variance)
    return Estimate(estimate, variance, estimate - half, estimate + half)


def _squares(summary: Summary, columns: Mapping[int, float]) -> float:
    """Return the sum of squares, about its mean, of a sum of columns, each times its number."""
    times = np.zeros(len(summary.mean))
    times[list(columns)] = list(columns.values())
    along = summary.root @ times
    return float(along @ along)


def _root(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return R with R^T R = sum of P^T P over `parts`, and no more rows than columns."""
    # Golub, Van Loan (2013), "Matrix Computations", section 5.2.
    root: NDArray[np.float64] = np.linalg.qr(np.concatenate(parts)).R
    return root
