"""Estimators of the mean reward of a target policy from the log of another: DR, SNIPS and IPS with their intervals.

Users are the sample: decisions of a user are alike, so the variance comes from the totals of users (ADR 26). A log of
any length is summed in parts, each with all decisions of its users, and the sums are merged. A summary keeps the root
of the sums of squares, so differences of large numbers lose no precision.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.evaluation.student import t95

# Columns of z.
_WEIGHT, _WEIGHTED, _REWARD, _ROBUST = range(4)


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of a mean reward.

    Attributes:
        estimate: the number.
        variance: the variance of `estimate`; None from fewer than two users.
        low, high: ends of the 95 % interval, estimate -+ t sqrt(variance), t from Student's distribution with one
            degree of freedom less than users; None if `variance` is None.
    """

    estimate: float
    variance: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Sums over n decisions of G users, each decision with its w, r and, with a model of the reward, d.

    w = p_target / p_logged: the ratio of the probabilities of the chosen action. r: the reward.
    d = q_target + w (r - q_logged): q_logged is the expected reward of the chosen action, q_target the mean expected
    reward over the target's choice.

    Attributes:
        n: the number of decisions.
        users: G, the number of users.
        mean: of z = (w, w r, r, d) over the decisions, shape (k,): k is 4, or 3 without d.
        root: R with R^T R = sum of u u^T over the users, shape (at most k + 1, k + 1). u is the number of the user's
            decisions, and behind it the sum of z - mean over these decisions.
        weight_squares: the sum of (w - mean of w)^2 over the decisions.
        max_weight: the largest w; 0 if there is none.
    """

    n: int
    users: int
    mean: NDArray[np.float64]
    root: NDArray[np.float64]
    weight_squares: float
    max_weight: float

    @property
    def mean_weight(self) -> float:
        """The mean of w; its expectation is 1 if every action that the target may choose has a propensity above 0."""
        return float(self.mean[_WEIGHT])

    @property
    def has_model(self) -> bool:
        """True if the decisions have a d."""
        return len(self.mean) > _ROBUST


class UserTotals:
    """The totals of each user over the blocks of decisions added so far, in any order of users.

    The memory grows with the number of users, about 160 bytes each, and not with the number of decisions.
    """

    __slots__ = ("_counts", "_max_weight", "_means", "_n", "_places", "_weight_mean", "_weight_squares")

    def __init__(self) -> None:
        """Hold no decision."""
        self._places: dict[Hashable, int] = {}
        self._counts: NDArray[np.float64] = np.zeros(0)
        self._means: NDArray[np.float64] = np.zeros((0, _ROBUST))
        self._n, self._weight_mean, self._weight_squares, self._max_weight = 0, 0.0, 0.0, 0.0

    def add(
        self,
        users: Sequence[Hashable],
        weights: NDArray[np.float64],
        rewards: NDArray[np.float64],
        q_logged: NDArray[np.float64] | None = None,
        q_target: NDArray[np.float64] | None = None,
    ) -> None:
        """Add a block of n decisions; all blocks have a model of the reward, or none has.

        Args:
            users: the user of each, n of them.
            weights: w of each, >= 0, shape (n,).
            rewards: r of each, shape (n,).
            q_logged: the expected reward of the chosen action, shape (n,), if there is a model of the reward.
            q_target: the expected reward of the target's choice, sum over a of p_target(a) q(a), shape (n,).
        """
        if not len(users):
            return
        z = _stack(weights, rewards, q_logged, q_target)
        places = np.array([self._places.setdefault(user, len(self._places)) for user in users])
        self._grow(len(z))
        own, groups = np.unique(places, return_inverse=True)
        counts = np.bincount(groups)
        # All columns are added up in the same way, so equal columns have equal means, to the last bit.
        means = np.stack([np.bincount(groups, column) for column in z], axis=1) / counts[:, np.newaxis]
        self._counts[own] += counts
        share = counts / self._counts[own]
        self._means[own] += (means - self._means[own]) * share[:, np.newaxis]
        self._add_weights(weights)

    def summarise(self) -> Summary:
        """Return the sums over all decisions added."""
        users = len(self._places)
        counts, means = self._counts[:users], self._means[:users]
        # In order, as above.
        all_users = np.zeros(users, np.intp)
        mean = np.array([np.bincount(all_users, counts * one, 1)[0] for one in means.T]) / max(self._n, 1)
        rows = np.column_stack((counts, counts[:, np.newaxis] * (means - mean)))
        return Summary(self._n, users, mean, _root((rows,)), self._weight_squares, self._max_weight)

    def _grow(self, columns: int) -> None:
        """Make room for all users; doubling keeps the time of all additions linear."""
        missing = len(self._places) - len(self._counts)
        if missing > 0:
            more = max(missing, len(self._counts))
            means = self._means if len(self._counts) else np.zeros((0, columns))
            self._counts = np.concatenate((self._counts, np.zeros(more)))
            self._means = np.concatenate((means, np.zeros((more, columns))))

    def _add_weights(self, weights: NDArray[np.float64]) -> None:
        mean = float(weights.mean())
        squares = float(((weights - mean) ** 2).sum())
        self._weight_squares += squares + _between(self._n, self._weight_mean, len(weights), mean)
        self._n += len(weights)
        self._weight_mean += (mean - self._weight_mean) * (len(weights) / self._n)
        self._max_weight = max(self._max_weight, float(weights.max()))


def summarise(
    weights: NDArray[np.float64],
    rewards: NDArray[np.float64],
    q_logged: NDArray[np.float64] | None = None,
    q_target: NDArray[np.float64] | None = None,
) -> Summary:
    """Sum up a block of n decisions, each by a user of its own; see UserTotals.add for the arguments."""
    z = _stack(weights, rewards, q_logged, q_target)
    n = len(weights)
    if not n:
        return Summary(0, 0, np.zeros(len(z)), np.zeros((0, len(z) + 1)), 0.0, 0.0)
    mean = z.mean(axis=1)
    rows = np.column_stack((np.ones(n), z.T - mean))
    squares = float(((weights - mean[_WEIGHT]) ** 2).sum())
    return Summary(n, n, mean, _root((rows,)), squares, float(weights.max()))


def merge(one: Summary, other: Summary) -> Summary:
    """Return the summary of the decisions of both; no user may be in both.

    Chan, Golub, LeVeque (1983), "Algorithms for Computing the Sample Variance", equation 2.1.
    """
    if not one.n or not other.n:
        return one if one.n else other
    n = one.n + other.n
    apart = other.mean - one.mean
    mean = one.mean + apart * (other.n / n)
    return Summary(
        n,
        one.users + other.users,
        mean,
        _root((_shift(one, mean), _shift(other, mean))),
        one.weight_squares + other.weight_squares + _between(one.n, one.mean_weight, other.n, other.mean_weight),
        max(one.max_weight, other.max_weight),
    )


def effective_sample_size(summary: Summary) -> float:
    """Return the effective sample size, (sum of w)^2 / sum of w^2, at most n.

    Kong (1992), "A Note on Importance Sampling Using Standardized Weights".
    """
    if not summary.mean_weight:
        return 0.0
    mean_square = summary.weight_squares / summary.n + summary.mean_weight**2
    return summary.n * summary.mean_weight**2 / mean_square


def observed(summary: Summary) -> Estimate:
    """Return the mean of r, the mean reward of the log's own policy."""
    return _of_columns(summary, float(summary.mean[_REWARD]), {_REWARD: 1.0})


def ips(summary: Summary) -> Estimate:
    """Return inverse propensity scoring, the mean of w r; unbiased if the log supports the target.

    Horvitz and Thompson (1952), "A Generalization of Sampling Without Replacement From a Finite Universe".
    """
    return _of_columns(summary, float(summary.mean[_WEIGHTED]), {_WEIGHTED: 1.0})


def snips(summary: Summary) -> Estimate | None:
    """Return self-normalised IPS, sum of w r / sum of w; None if every w is 0.

    Its variance is by the delta method: that of the mean of w (r - snips) / (mean of w). Swaminathan and Joachims
    (2015), "The Self-Normalized Estimator for Counterfactual Learning".
    """
    if not summary.mean_weight:
        return None
    estimate = float(summary.mean[_WEIGHTED]) / summary.mean_weight
    return _of_columns(summary, estimate, _linearise(summary, estimate))


def dr(summary: Summary) -> Estimate | None:
    """Return the doubly robust estimate, the mean of d; None without a model of the reward.

    It is unbiased with any model that was not trained on these rewards. Dudik, Langford, Li (2011), "Doubly Robust
    Policy Evaluation and Learning".
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
    """Return the distance of the mean of w from 1, in standard errors; None from fewer than two users.

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


def _of_columns(summary: Summary, estimate: float, columns: Mapping[int, float]) -> Estimate:
    """Return `estimate` with the variance of the mean of e, a sum of columns of z, each times its number.

    The variance is G / (G - 1) times the sum over users of (sum of e - mean of e of a user)^2, over n^2. If each user
    has one decision, it is s^2 / n. Liang and Zeger (1986), "Longitudinal Data Analysis Using Generalized Linear
    Models"; Cameron, Gelbach, Miller (2008), "Bootstrap-Based Improvements for Inference with Clustered Errors", for
    the factor and for Student's t with G - 1 degrees of freedom.
    """
    users = summary.users
    if users < 2:  # noqa: PLR2004 - a variance needs two
        return Estimate(estimate, None, None, None)
    times = np.zeros(len(summary.mean) + 1)
    times[[place + 1 for place in columns]] = list(columns.values())
    along = summary.root @ times
    variance = users / (users - 1) * float(along @ along) / summary.n / summary.n
    half = t95(users - 1) * math.sqrt(variance)
    return Estimate(estimate, variance, estimate - half, estimate + half)


def _stack(
    weights: NDArray[np.float64],
    rewards: NDArray[np.float64],
    q_logged: NDArray[np.float64] | None,
    q_target: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return z of n decisions, shape (k, n)."""
    weighted = weights * rewards
    columns = [weights, weighted, rewards]
    if q_logged is not None and q_target is not None:
        columns.append(q_target + (weighted - weights * q_logged))
    return np.stack(columns)


def _shift(summary: Summary, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the root of `summary` with sums of z about another mean: each user's sum moves by its decisions."""
    moved = summary.root.copy()
    moved[:, 1:] += np.outer(summary.root[:, 0], summary.mean - mean)
    return moved


def _between(n: int, mean: float, other_n: int, other_mean: float) -> float:
    """Return the part of the sum of squares about the common mean that the distance of two means adds."""
    apart = other_mean - mean
    return apart * apart * (n * (other_n / (n + other_n)))


def _root(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return R with R^T R = sum of P^T P over `parts`, and no more rows than columns."""
    # Golub, Van Loan (2013), "Matrix Computations", section 5.2.
    root: NDArray[np.float64] = np.linalg.qr(np.concatenate(parts)).R
    return root
