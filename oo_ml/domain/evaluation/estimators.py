"""Estimators of the mean reward of a target policy from the log of another: IPS, SNIPS and DR with their intervals.

A log of any length is summed in blocks, and the sums are merged: Chan, Golub, LeVeque (1983), "Algorithms for
Computing the Sample Variance", equation 2.1. A summary keeps the root of the sums of squares, so differences of large
numbers lose no precision. Decisions are assumed to be independent.
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
    """An estimate of a mean reward.

    Attributes:
        estimate: the number.
        variance: the variance of `estimate`; None from fewer than two decisions.
        low, high: ends of the 95 % interval, estimate -+ Z95 sqrt(variance); None if `variance` is None.
    """

    estimate: float
    variance: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Sums over n decisions, each with its w, r and, with a model of the reward, d.

    w = p_target / p_logged: the ratio of the probabilities of the chosen action. r: the reward.
    d = q_target + w (r - q_logged): q_logged is the expected reward of the chosen action, q_target the mean expected
    reward over the target's choice.

    Attributes:
        n: the number of decisions.
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
        """The mean of w; its expectation is 1 if every action that the target may choose has a propensity above 0."""
        return float(self.mean[_WEIGHT])

    @property
    def has_model(self) -> bool:
        """True if the decisions have a d."""
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
        q_logged: the expected reward of the chosen action, shape (n,), if there is a model of the reward.
        q_target: the expected reward of the target's choice, sum over a of p_target(a) q(a), shape (n,).
    """
    weighted = weights * rewards
    columns = [weights, weighted, rewards]
    if q_logged is not None and q_target is not None:
        columns.append(q_target + (weighted - weights * q_logged))
    z = np.stack(columns)
    if not z.size:
        return Summary(0, np.zeros(len(z)), np.zeros((0, len(z))), 0.0)
    # All columns are added up in the same way, so equal columns have equal means, to the last bit.
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
    """Return the effective sample size, (sum of w)^2 / sum of w^2, at most n.

    Kong (1992), "A Note on Importance Sampling Using Standardized Weights".
    """
    if not summary.mean_weight:
        return 0.0
    mean_square = _squares(summary, {_WEIGHT: 1.0}) / summary.n + summary.mean_weight**2
    return summary.n * summary.mean_weight**2 / mean_square


def observed(summary: Summary) -> Estimate:
    """Return the mean of r, the mean reward of the log's own policy.

    Its variance is s^2 / n, s^2 the variance of r as of a sample (n - 1).
    """
    return _of_columns(summary, float(summary.mean[_REWARD]), {_REWARD: 1.0})


def ips(summary: Summary) -> Estimate:
    """Return inverse propensity scoring, the mean of w r; unbiased if the log supports the target.

    Its variance is s^2 / n, s^2 the variance of w r as of a sample (n - 1). Horvitz and Thompson (1952), "A
    Generalization of Sampling Without Replacement From a Finite Universe".
    """
    return _of_columns(summary, float(summary.mean[_WEIGHTED]), {_WEIGHTED: 1.0})


def snips(summary: Summary) -> Estimate | None:
    """Return self-normalised IPS, sum of w r / sum of w; None if every w is 0.

    Its variance, by the delta method, is sum of w^2 (r - snips)^2 / (sum of w)^2. Swaminathan and Joachims (2015), "The
    Self-Normalized Estimator for Counterfactual Learning".
    """
    if not summary.mean_weight:
        return None
    estimate = float(summary.mean[_WEIGHTED]) / summary.mean_weight
    return _of_columns(summary, estimate, _linearise(summary, estimate), ddof=0)


def dr(summary: Summary) -> Estimate | None:
    """Return the doubly robust estimate, the mean of d; None without a model of the reward.

    It is unbiased with any model that was not trained on these rewards. Its variance is s^2 / n, where s^2 is the
    sample variance of d (n - 1). Dudik, Langford, Li (2011), "Doubly Robust Policy Evaluation and Learning".
    """
    return _of_columns(summary, float(summary.mean[_ROBUST]), {_ROBUST: 1.0}) if summary.has_model else None


def gain(summary: Summary) -> Estimate | None:
    """Return the gain of the target over the log's own policy: dr, or snips without a model, minus observed.

    Its interval is narrower than those of the two would suggest, because both use the same decisions.
    """
    own = float(summary.mean[_REWARD])
    if summary.has_model:
        return _of_columns(summary, float(summary.mean[_ROBUST]) - own, {_ROBUST: 1.0, _REWARD: -1.0})
    target = snips(summary)
    if target is None:
        return None
    columns = {**_linearise(summary, target.estimate), _REWARD: -1.0}
    return _of_columns(summary, target.estimate - own, columns)


def weight_off(summary: Summary) -> float | None:
    """Return the distance of the mean of w from 1, in standard errors; None from fewer than two decisions.

    If it is large, the logged propensities are wrong, or the target may choose actions with propensity 0. Infinite if
    all w are equal but not 1.
    """
    away = abs(summary.mean_weight - 1)
    variance = _of_columns(summary, summary.mean_weight, {_WEIGHT: 1.0}).variance
    if variance is None or not away:
        return None if variance is None else 0.0
    return away / math.sqrt(variance) if variance else math.inf


def _linearise(summary: Summary, ratio: float) -> dict[int, float]:
    """Return the columns whose sum varies like `ratio` = sum of w r / sum of w, to first order (the delta method)."""
    share = 1 / summary.mean_weight
    return {_WEIGHT: -ratio * share, _WEIGHTED: share}


def _of_columns(summary: Summary, estimate: float, columns: Mapping[int, float], ddof: int = 1) -> Estimate:
    """Return `estimate` with the variance of the mean of a sum of columns, each times its number."""
    if summary.n < 2:  # noqa: PLR2004 - a variance needs two
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
