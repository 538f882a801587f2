"""The population: beliefs, decay and the fit, against regressions and loops written from their definitions."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Final, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from oo_ml.domain.evidence import Evidence, adjust, forget, observe
from oo_ml.domain.population import START, Population, Prior, Sample, fit
from oo_ml.domain.ridge import Ridge, theta

Numbers = NDArray[np.float64]

D: Final = 3
HALF_LIFE: Final = timedelta(days=75)


class Reaction(NamedTuple):
    """A reward, and the days from START to its decision."""

    x: Numbers
    reward: float
    days: float


_features = arrays(np.float64, D, elements=st.floats(-1, 1, allow_subnormal=False))
_reward = st.floats(-1, 1, allow_subnormal=False)
_days = st.floats(0, 300)
_reactions = st.lists(st.builds(Reaction, _features, _reward, _days), max_size=12)


@st.composite
def priors(draw: st.DrawFn) -> Prior:
    """Draw a prior, with a covariance that is positive definite."""
    root, other = (draw(arrays(np.float64, (D, D), elements=st.floats(-1, 1))) for _ in range(2))
    return Prior(
        version=draw(st.integers(1, 9)),
        mean=draw(_features),
        covariance=root @ root.T + 0.1 * np.eye(D),
        mean_covariance=0.1 * other @ other.T,
        noise_variance=draw(st.floats(0.05, 2)),
    )


def build_population(prior: Prior, half_life: timedelta | None = HALF_LIFE) -> Population:
    """Return a population with this prior."""
    return Population(half_life, prior)


def gather(population: Population, reactions: Sequence[Reaction]) -> Evidence:
    """Return the evidence about a user, as the service adds it up."""
    evidence = Evidence.pooled(D)
    for x, reward, days in reactions:
        evidence = observe(evidence, x, reward, population.weigh(START + timedelta(days=days)))
    return evidence


def believe(population: Population, evidence: Evidence, days: float) -> tuple[Numbers, Numbers]:
    """Return the mean and the covariance of the belief about a user so many days after START."""
    belief = population.believe([evidence], [START + timedelta(days=days)])
    return theta(belief)[0], np.linalg.inv(belief.A[0])


def regress(prior: Prior, reactions: Sequence[Reaction], days: float) -> tuple[Numbers, Numbers]:
    """Return the mean and covariance of theta given rewards whose noise has doubled with every half-life.

    The definition: the prior is D more rows, whitened like the others, of a least-squares problem.
    """
    spread = prior.covariance + prior.mean_covariance
    rows, values = [np.linalg.inv(np.linalg.cholesky(spread))], [np.linalg.inv(np.linalg.cholesky(spread)) @ prior.mean]
    for x, reward, at in reactions:
        deviation = np.sqrt(prior.noise_variance * 2 ** ((days - at) / (HALF_LIFE / timedelta(days=1))))
        rows.append(x[np.newaxis] / deviation)
        values.append(np.array([reward / deviation]))
    X, y = np.concatenate(rows), np.concatenate(values)
    solution, *_ = np.linalg.lstsq(X, y, rcond=None)
    return solution, np.linalg.inv(X.T @ X)


@given(priors(), _reactions, st.floats(300, 900))
def test_belief(prior: Prior, reactions: list[Reaction], days: float) -> None:
    """The belief is that of a Bayesian regression in which the variance of noise doubles with each half-life.

    So forward weights, which never change, equal weights that decay backward from any time.
    """
    population = build_population(prior)
    mean, covariance = believe(population, gather(population, reactions), days)
    expected_mean, expected_covariance = regress(prior, reactions, days)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(covariance, expected_covariance, rtol=1e-7, atol=1e-9)


@given(priors(), _reactions, st.randoms(use_true_random=False))
def test_order_of_arrival(prior: Prior, reactions: list[Reaction], random: Random) -> None:
    """Late rewards count as if they had come in order, up to rounding."""
    population = build_population(prior)
    shuffled = random.sample(reactions, len(reactions))
    for one, other in zip(
        believe(population, gather(population, reactions), 300),
        believe(population, gather(population, shuffled), 300),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@given(priors(), _reactions, _features, _reward, _reward, _days)
def test_changes_of_rewards(
    prior: Prior, reactions: list[Reaction], x: Numbers, first: float, second: float, days: float
) -> None:
    """An amended reward counts as if it had come first, and a retracted one as if it had never come."""
    population = build_population(prior)
    g = population.weigh(START + timedelta(days=days))
    before = gather(population, reactions)
    observed = observe(before, x, first, g)
    for changed, expected in (
        (adjust(observed, x, second, first, g), observe(before, x, second, g)),
        (forget(observed, x, first, g), before),
    ):
        for one, other in zip(believe(population, changed, 300), believe(population, expected, 300), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


@given(priors(), st.lists(st.tuples(_reactions, _days), min_size=1, max_size=4))
def test_several_users(prior: Prior, users: list[tuple[list[Reaction], float]]) -> None:
    """Beliefs about several users at once equal those about each alone, bit for bit."""
    population = build_population(prior)
    evidence = [gather(population, reactions) for reactions, _ in users]
    times = [START + timedelta(days=days) for _, days in users]
    together = population.believe(evidence, times)
    for place, (one, at) in enumerate(zip(evidence, times, strict=True)):
        alone = population.believe([one], [at])
        assert together.A[place].tobytes() == alone.A[0].tobytes()
        assert together.b[place].tobytes() == alone.b[0].tobytes()


@given(priors(), priors(), _reactions)
def test_earlier_version(latest: Prior, earlier: Prior, reactions: list[Reaction]) -> None:
    """A belief starts from the version that is named: a decision of the past can be recomputed."""
    evidence, at = gather(build_population(latest), reactions), START + timedelta(days=300)
    named = build_population(latest).believe([evidence], [at], [earlier])
    alone = build_population(earlier).believe([evidence], [at])
    assert (named.A.tobytes(), named.b.tobytes()) == (alone.A.tobytes(), alone.b.tobytes())


@given(priors())
def test_user_without_rewards(prior: Prior) -> None:
    """The belief about a user without rewards is N(mean, covariance + mean_covariance), whatever the time."""
    population = build_population(prior)
    mean, covariance = believe(population, Evidence.pooled(D), 1000)
    np.testing.assert_allclose(mean, prior.mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(covariance, prior.covariance + prior.mean_covariance, rtol=1e-8, atol=1e-10)
    assert prior.own_share(prior.belief) == pytest.approx(0, abs=1e-9)


def test_initial_prior() -> None:
    """Before there is data theta is N(0, 0.35 I), and the noise has a variance of 0.35."""
    prior = Prior.initial(D)
    assert (prior.version, prior.dimension, prior.noise_variance) == (0, D, 0.35)
    np.testing.assert_allclose(np.linalg.inv(prior.belief.A), 0.35 * np.eye(D))
    assert prior.belief.b.tolist() == [0.0] * D


@given(_days)
def test_weights(days: float) -> None:
    """A weight is 1 at the start of the epoch and doubles with each half-life; without a half-life it is 1."""
    at = START + timedelta(days=days)
    population = build_population(Prior.initial(D))
    assert population.weigh(START) == 1
    assert population.weigh(at + HALF_LIFE) == pytest.approx(2 * population.weigh(at))
    assert population.weigh(START - HALF_LIFE) == 0.5
    assert build_population(Prior.initial(D), None).weigh(at) == 1


@pytest.mark.parametrize("half_lives", [10, 100, 900])
def test_weights_after_many_half_lives(half_lives: int) -> None:
    """Beliefs depend on the age of rewards alone, also hundreds of half-lives after the start."""
    prior = replace(Prior.initial(D), mean=np.array([0.5, -0.5, 0.0]))
    population = build_population(prior)
    reactions = [Reaction(np.array([1.0, 0.5, 0.0]), 1.0, 0.0), Reaction(np.array([0.0, 1.0, 1.0]), -1.0, 30.0)]
    shift = half_lives * (HALF_LIFE / timedelta(days=1))
    later = [one._replace(days=one.days + shift) for one in reactions]
    for one, other in zip(
        believe(population, gather(population, reactions), 60),
        believe(population, gather(population, later), 60 + shift),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    # The rewards of the start have faded, unlike those of the end.
    mean, _ = believe(population, gather(population, reactions), 60 + shift)
    np.testing.assert_allclose(mean, prior.mean, atol=5 * 2.0**-half_lives)


@given(priors(), _reactions, _features)
def test_own_share(prior: Prior, reactions: list[Reaction], x: Numbers) -> None:
    """The share of a user's own rewards in a belief is from 0 to 1, and no reward makes it smaller."""
    population = build_population(prior)

    def share(reactions: list[Reaction]) -> float:
        belief = population.believe([gather(population, reactions)], [START + timedelta(days=300)])
        return prior.own_share(Ridge(belief.A[0], belief.b[0]))

    before, after = share(reactions), share([*reactions, Reaction(x, 1.0, 300.0)])
    assert -1e-9 <= before <= after + 1e-9
    assert after <= 1 + 1e-9


def draw_sample(
    rng: np.random.Generator, prior: Prior, users: int, rewards: int, noise: float, *, weight: float = 1.0
) -> Sample:
    """Draw users from N(mean, covariance) of a prior, each with some rewards."""
    thetas = rng.multivariate_normal(prior.mean, prior.covariance, users)
    X = rng.normal(size=(users, rewards, prior.dimension))
    r = np.einsum("urd,ud->ur", X, thetas) + rng.normal(0, np.sqrt(noise), (users, rewards))
    return Sample(
        A=weight * np.einsum("uri,urj->uij", X, X),
        b=weight * np.einsum("ur,uri->ui", r, X),
        weight=np.full(users, weight * rewards),
        squares=weight * (r**2).sum(axis=1),
    )


def improve_slowly(sample: Sample, prior: Prior) -> Prior:
    """Return the prior after one round of expectation maximisation, user by user, with explicit inverses."""
    n, d = sample.b.shape
    Sigma_inverse, s2 = np.linalg.inv(prior.covariance), prior.noise_variance
    # mu: the marginal of b_u says A_u mu is the mean of b_u, and s2 A_u + A_u Sigma A_u its covariance.
    precision, pull = np.eye(d) / 0.3, np.zeros(d)
    for user in range(n):
        V = np.linalg.inv(Sigma_inverse + sample.A[user] / s2)
        precision += Sigma_inverse - Sigma_inverse @ V @ Sigma_inverse
        pull += Sigma_inverse @ V @ sample.b[user] / s2
    C = np.linalg.inv(precision).astype(np.float64)
    mu = C @ pull
    spread, errors = (d + 2) * 0.05 * np.eye(d), 20 * 0.35
    for user in range(n):
        V = np.linalg.inv(Sigma_inverse + sample.A[user] / s2)
        m = V @ (Sigma_inverse @ mu + sample.b[user] / s2)
        spread += V + np.outer(m - mu, m - mu)
        errors += sample.squares[user] - 2 * m @ sample.b[user]
        errors += np.trace(sample.A[user] @ (V + np.outer(m, m)))
    return Prior(prior.version, mu, spread / (n + d + 2), C, errors / (sample.weight.sum() + 20))


@settings(max_examples=15)
@given(priors(), st.integers(1, 6), st.integers(1, 8), st.floats(0.05, 1), st.integers(0, 2**32))
def test_fit(truth: Prior, users: int, rewards: int, noise: float, seed: int) -> None:
    """The first fit is 40 rounds of expectation maximisation from version 0, as loops over users compute them."""
    sample = draw_sample(np.random.default_rng(seed), truth, users, rewards, noise)
    fitted = fit(sample, Prior.initial(D))
    expected = Prior.initial(D)
    for _ in range(40):
        expected = improve_slowly(sample, expected)
    assert fitted.version == 1
    np.testing.assert_allclose(fitted.mean, expected.mean, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fitted.covariance, expected.covariance, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fitted.mean_covariance, expected.mean_covariance, rtol=1e-6, atol=1e-9)
    assert fitted.noise_variance == pytest.approx(expected.noise_variance)
    assert np.array_equal(fitted.covariance, fitted.covariance.T)


@pytest.mark.parametrize("users", [1, 5])
def test_mean_of_users(users: int) -> None:
    """A round's mean is that of a regression on all rewards at once, in which a user's rewards share their theta.

    With the rewards stacked, r is N(X mu, X Sigma X^T + s2 I) within each user, and mu is N(0, 0.3 I).
    """
    rng, prior = np.random.default_rng(1), Prior.initial(D)
    X, r = rng.normal(size=(users, 4, D)), rng.uniform(-1, 1, (users, 4))
    sample = Sample(
        A=np.einsum("uri,urj->uij", X, X),
        b=np.einsum("ur,uri->ui", r, X),
        weight=np.full(users, 4.0),
        squares=(r**2).sum(axis=1),
    )
    covariances = [one @ prior.covariance @ one.T + prior.noise_variance * np.eye(4) for one in X]
    precision = np.eye(D) / 0.3 + sum(one.T @ np.linalg.inv(own) @ one for one, own in zip(X, covariances, strict=True))
    pull = sum(one.T @ np.linalg.inv(own) @ two for one, own, two in zip(X, covariances, r, strict=True))
    improved = improve_slowly(sample, prior)
    np.testing.assert_allclose(improved.mean, np.linalg.solve(precision, pull), rtol=1e-9)
    np.testing.assert_allclose(improved.mean_covariance, np.linalg.inv(precision), rtol=1e-9)


def test_later_fits() -> None:
    """A later fit starts from the version before, and takes 4 rounds if the prior stands still, and else up to 10."""
    rng = np.random.default_rng(2)
    truth = replace(Prior.initial(D), mean=np.array([0.3, 0.0, -0.3]), covariance=0.1 * np.eye(D))
    sample = draw_sample(rng, truth, 50, 15, 0.3)
    still = Prior.initial(D)
    for _ in range(150):
        still = improve_slowly(sample, still)
    again = fit(sample, replace(still, version=7))
    assert again.version == 8
    four = still
    for _ in range(4):
        four = improve_slowly(sample, four)
    np.testing.assert_allclose(again.mean, four.mean, rtol=1e-9)
    np.testing.assert_allclose(again.covariance, four.covariance, rtol=1e-12)
    # Users of another mean move it: it needs more rounds, and takes them.
    other = draw_sample(rng, replace(truth, mean=-3 * truth.mean), 50, 15, 0.3)
    moved, five = fit(other, replace(still, version=7)), still
    for _ in range(5):
        five = improve_slowly(other, five)
    assert not np.allclose(moved.covariance, five.covariance, rtol=1e-6)


def count_rounds(sample: Sample, before: Prior) -> int:
    """Return the number of rounds that a fit takes from a version."""
    fitted, prior = fit(sample, before), before
    for finished in range(1, 41):
        prior = improve_slowly(sample, prior)
        if np.allclose(prior.covariance, fitted.covariance, rtol=1e-9) and prior.noise_variance == pytest.approx(
            fitted.noise_variance, rel=1e-9
        ):
            return finished
    raise AssertionError("the fit is no number of rounds")


@pytest.mark.parametrize(
    "factors", [2 * np.eye(D), 0.95 * np.eye(D) + 0.05 * np.ones((D, D))], ids=["variances", "correlations"]
)
def test_stillness_of_covariance(factors: Numbers) -> None:
    """A fit goes on while the variances of users, or only their correlations, move, although the mean is still.

    Rewards that average 0 for each user keep the mean at 0.
    """
    n = 50
    sample = Sample(np.tile(np.eye(D), (n, 1, 1)), np.zeros((n, D)), np.full(n, 3.0), np.full(n, 0.9))
    still = Prior.initial(D)
    for _ in range(100):
        still = improve_slowly(sample, still)
    # All features have the same variance.
    moved = replace(still, version=7, covariance=still.covariance[0, 0] * factors)
    assert count_rounds(sample, moved) == 10


def test_stillness_of_noise() -> None:
    """A fit goes on while the noise moves, although the mean and the covariance are still.

    With as many rewards as features and without noise, the rewards tell each user's theta, and little of the noise.
    """
    n, A = 50, 100 * np.eye(D)
    thetas = np.random.default_rng(6).normal(size=(n, D))
    squares = np.einsum("ni,ij,nj->n", thetas, A, thetas)
    sample = Sample(np.tile(A, (n, 1, 1)), thetas @ A, np.full(n, float(D)), squares)
    still = Prior.initial(D)
    for _ in range(100):
        still = improve_slowly(sample, still)
    assert count_rounds(sample, replace(still, version=7, noise_variance=0.5)) == 10


def test_recovery() -> None:
    """From simulated users the fit recovers the mean, how users differ, and the noise."""
    rng = np.random.default_rng(3)
    covariance = np.array([[0.3, 0.1, 0.0], [0.1, 0.2, -0.1], [0.0, -0.1, 0.25]])
    truth = replace(Prior.initial(D), mean=np.array([0.6, -0.4, 0.0]), covariance=covariance)
    sample = draw_sample(rng, truth, 3000, 20, 0.3)
    fitted = fit(sample, Prior.initial(D))
    # Standard errors: about sqrt(0.3 / 3000) = 0.01 of the mean, and 0.3 sqrt(2 / 3000) = 0.008 of a variance.
    np.testing.assert_allclose(fitted.mean, truth.mean, atol=0.05)
    np.testing.assert_allclose(fitted.covariance, covariance, atol=0.05)
    assert fitted.noise_variance == pytest.approx(0.3, abs=0.02)
    assert np.sqrt(np.diag(fitted.mean_covariance)) == pytest.approx(np.sqrt(np.diag(covariance) / 3000), rel=0.2)


def test_parts_of_users() -> None:
    """A fit takes users in parts of 1,000, and all of them count."""
    truth = replace(Prior.initial(2), mean=np.array([0.3, -0.3]))
    sample = draw_sample(np.random.default_rng(4), truth, 1001, 3, 0.3)
    fitted, expected = fit(sample, replace(truth, version=1)), truth
    candidates = []
    for _ in range(10):
        expected = improve_slowly(sample, expected)
        candidates.append(expected)
    same = [one for one in candidates[3:] if np.allclose(one.covariance, fitted.covariance, rtol=1e-9)]
    assert len(same) == 1
    np.testing.assert_allclose(fitted.mean, same[0].mean, rtol=1e-9)
    assert fitted.noise_variance == pytest.approx(same[0].noise_variance)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e308])
@pytest.mark.parametrize("name", ["A", "b", "weight", "squares"])
def test_numbers_that_no_prior_fits(name: str, bad: float) -> None:
    """A fit to numbers that are not finite, or whose sums are not, is refused: no such prior is ever published."""
    sample = draw_sample(np.random.default_rng(5), Prior.initial(D), 4, 3, 0.3)
    numbers = getattr(sample, name).copy()
    numbers[..., -1] = bad
    numbers[0] = bad
    with np.errstate(all="ignore"), pytest.raises((ArithmeticError, np.linalg.LinAlgError)):
        fit(replace(sample, **{name: numbers}), Prior.initial(D))


def test_noise_that_no_rewards_have() -> None:
    """A fit to finite sums that no rewards in [-1, 1] have is refused too."""
    sample = draw_sample(np.random.default_rng(5), Prior.initial(D), 4, 3, 0.3)
    with pytest.raises(ArithmeticError, match="not possible"):
        fit(replace(sample, squares=sample.squares + 1000), Prior.initial(D))
