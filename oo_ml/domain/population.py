"""The population of a pooled policy: the prior, from which each of its users starts, and the decay of what they told.

For a user u with rewards r = theta_u.x + N(0, s2), theta_u ~ N(mu, Sigma). The prior has mu, Sigma and s2, fitted to
all users together by expectation maximisation; before there is data, theta_u ~ N(0, 0.35 I) and s2 = 0.35.

Sources: Lindley and Smith (1972), "Bayes Estimates for the Linear Model", for the belief; Dempster, Laird and Rubin
(1977), "Maximum Likelihood from Incomplete Data via the EM Algorithm", for the fit; Cormode, Shkapenyuk, Srivastava and
Xu (2009), "Forward Decay", for the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.ridge import Ridge

# t0 of the decay. It is the same for all policies and everywhere, so that a user can be replayed in another database.
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
# Before there is data: the variance of each number of theta, and that of noise.
_VARIANCE: Final = 0.35
_NOISE: Final = 0.35
# A fit counts these besides the data, so that few users can't make a variance vanish: the variance of each number of
# theta as of d + 2 users, the noise as of 20 rewards, and the variance of the mean before there is data.
_VARIANCE_OF_FEW: Final = 0.05
_NOISE_OF_FEW: Final = 20
# Rewards lie in [-1, 1], so no two differ by more than 2.
_LARGEST_NOISE: Final = 4
_VARIANCE_OF_MEAN: Final = 0.3
# A fit ends when no number moves by more than this share in a round: see _find_change.
_STILL: Final = 1e-3
_FIRST_ROUNDS: Final = 40
_LEAST_ROUNDS: Final = 4
_MOST_ROUNDS: Final = 10
# Users whose matrices are inverted at once.
_USERS_AT_ONCE: Final = 1000


@dataclass(frozen=True, eq=False)
class Prior:
    """A version of the belief about a user of whom nothing is known: theta_u ~ N(mean, covariance + mean_covariance).

    Attributes:
        version: 0 before the first fit.
        mean: mu, shape (d,).
        covariance: Sigma, how users differ from each other, shape (d, d).
        mean_covariance: C, how uncertain the mean is, shape (d, d).
        noise_variance: s2, the variance of a reward around theta_u.x.
    """

    version: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    mean_covariance: NDArray[np.float64]
    noise_variance: float

    @classmethod
    def initial(cls, dimension: int) -> Self:
        """Return version 0, the prior without data."""
        d = dimension
        return cls(0, np.zeros(d), _VARIANCE * np.eye(d), np.zeros((d, d)), _NOISE)

    @property
    def dimension(self) -> int:
        """The number of features d."""
        return len(self.mean)

    def is_same(self, other: "Prior") -> bool:
        """Return whether two priors are the same version of the same fit; a restored database may fit it anew."""
        return (self.version, self.noise_variance) == (other.version, other.noise_variance)

    @cached_property
    def belief(self) -> Ridge:
        """The belief about a user of whom nothing is known."""
        precision = _invert(self.covariance + self.mean_covariance)
        return Ridge(precision, precision @ self.mean)

    def own_share(self, belief: Ridge) -> float:
        """Return the share of a belief that the user's own rewards gave, from 0 to 1: 1 - tr(V S^-1) / d.

        Args:
            belief: of a user, from this prior; V is its covariance, and S that of the prior.
        """
        return 1 - float(np.trace(np.linalg.solve(belief.A, self.belief.A))) / self.dimension


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """The users of a policy that learn from each other.

    Attributes:
        half_life: the time in which a reward comes to count half; None: it always counts the same.
        prior: the latest version.
    """

    half_life: timedelta | None
    prior: Prior

    def weigh(self, decided_at: datetime) -> float:
        """Return the weight g = 2^((t - START) / half-life) of the reward for a decision at t: the later, the more.

        Weights never change, and so a sum of weighted rewards stays the same sum, whatever the time and the order of
        arrival. float64 has room for about 1,000 half-lives.
        """
        return 1.0 if self.half_life is None else 2.0 ** ((decided_at - START) / self.half_life)

    def believe(
        self, evidence: Sequence[Evidence], times: Sequence[datetime], priors: Sequence[Prior] | None = None
    ) -> Ridge:
        """Return the beliefs about m users at m times, each from the evidence about the user and the prior.

        With f = 1 / g(t), a reward at t itself counts 1: the precision is S^-1 + f A / s2, and the mean is that
        precision's inverse times (S^-1 mu + f b / s2), with the prior's covariance S.

        Args:
            evidence: sums of this policy, of dimension d.
            times: of the decisions, m.
            priors: the versions to start from, m; None: the latest for all.

        Returns:
            a stack of m beliefs.
        """
        starts = [self.prior] if priors is None else priors
        noise = np.array([prior.noise_variance for prior in starts])
        scales = (1 / (np.array([self.weigh(at) for at in times]) * noise))[:, np.newaxis]
        A, b = np.array([one.A for one in evidence]), np.array([one.b for one in evidence])
        A *= scales[:, np.newaxis]
        b *= scales
        A += np.array([prior.belief.A for prior in starts])
        b += np.array([prior.belief.b for prior in starts])
        return Ridge(A, b)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The evidence of n users at one time, each with a weight above 0; what a prior is fitted to.

    Attributes:
        A, b, weight, squares: those of `Evidence`, faded to the time of the fit: shapes (n, d, d), (n, d), (n,), (n,).
    """

    A: NDArray[np.float64]
    b: NDArray[np.float64]
    weight: NDArray[np.float64]
    squares: NDArray[np.float64]


def fit(sample: Sample, before: Prior, *, is_afresh: bool = False) -> Prior:
    """Return the next version of a prior, fitted to the evidence of n users, n >= 1.

    Each round takes the belief about each user from the last Sigma and s2, and then Sigma, s2 and mu from these
    beliefs (expectation maximisation, with mu integrated out of the beliefs). The first fit takes 40 rounds; others
    start from the version before, and take 4 to 10, until the prior stands still. With `is_afresh` it starts like the
    first one, so that the result depends on the sample alone. It takes as much memory as the sample besides.

    Raises:
        ArithmeticError, np.linalg.LinAlgError: the result is not finite, not possible with rewards in [-1, 1], or has
            no inverse; the evidence was tampered with, or is too large.
    """
    n, d = sample.b.shape
    is_first = is_afresh or not before.version
    prior = replace(Prior.initial(d) if is_first else before, version=before.version + 1)
    most = _FIRST_ROUNDS if is_first else _MOST_ROUNDS
    for finished in range(1, most + 1):
        last, prior = prior, _improve(sample, prior)
        if not is_first and finished >= _LEAST_ROUNDS and _find_change(last, prior) < _STILL:
            break
    # Fails if it is not positive definite.
    np.linalg.cholesky(prior.covariance)
    numbers = (prior.mean, prior.covariance, prior.mean_covariance, np.array(prior.noise_variance))
    if not all(np.isfinite(one).all() for one in numbers) or not 0 < prior.noise_variance <= _LARGEST_NOISE:
        raise ArithmeticError(f"the fit of {n} users with {d} features is not finite, or not possible")
    return prior


def _improve(sample: Sample, prior: Prior) -> Prior:
    """Return the prior after one more round."""
    n, d = sample.b.shape
    inverse = _invert(prior.covariance)
    V = _invert_all(sample.A, inverse, prior.noise_variance)
    total = V.sum(axis=0)
    # V_u b_u / s2, and the precision of what all users say about mu.
    pulls = np.einsum("nij,nj->ni", V, sample.b) / prior.noise_variance
    C = _invert(np.eye(d) / _VARIANCE_OF_MEAN + n * inverse - inverse @ total @ inverse)
    mu = C @ (inverse @ pulls.sum(axis=0))
    means = pulls + V @ (inverse @ mu)
    deviations = means - mu
    spread = (d + 2) * _VARIANCE_OF_FEW * np.eye(d) + total + deviations.T @ deviations
    explained = np.einsum("ni,ni->", means, sample.b)
    predicted = np.einsum("nij,nj->ni", sample.A, means)
    seconds = np.einsum("nij,nij->", sample.A, V) + np.einsum("ni,ni->", means, predicted)
    errors = _NOISE_OF_FEW * _NOISE + float(sample.squares.sum() - 2 * explained + seconds)
    return replace(
        prior,
        mean=mu,
        covariance=_symmetric(spread / (n + d + 2)),
        mean_covariance=C,
        noise_variance=errors / (float(sample.weight.sum()) + _NOISE_OF_FEW),
    )


def _find_change(last: Prior, prior: Prior) -> float:
    """Return how far a round moved the number of Sigma and s2 that it moved most; mu follows from these alone.

    A number of Sigma in products of two standard deviations of users, so that correlations count as much as variances;
    s2 in itself.
    """
    deviations = np.sqrt(np.diag(prior.covariance))
    covariance = np.abs(prior.covariance - last.covariance) / np.outer(deviations, deviations)
    noise = abs(prior.noise_variance - last.noise_variance) / prior.noise_variance
    return max(float(covariance.max()), noise)


def _invert_all(A: NDArray[np.float64], inverse: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """Return V_u = (Sigma^-1 + A_u / s2)^-1 of all users, shape (n, d, d)."""
    V = np.empty_like(A)
    # In parts, because an inversion takes the memory of its result twice more.
    for start in range(0, len(A), _USERS_AT_ONCE):
        part = slice(start, start + _USERS_AT_ONCE)
        V[part] = np.linalg.inv(inverse + A[part] / noise)
    return V


def _invert(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return _symmetric(np.linalg.inv(matrix).astype(np.float64, copy=False))


def _symmetric(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return (matrix + matrix.T) / 2
