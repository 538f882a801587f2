"""The probabilities of prompt versions, and draws with these probabilities."""

from math import comb, fsum, nextafter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.policies import draw
from oo_ml.domain.version_probabilities import FLOOR, POSTERIOR_DRAWS, Evidence, estimate_thompson, normalize, pick

WEIGHTS = st.lists(st.floats(0, 1.7e308), min_size=1, max_size=30).filter(any)
EVIDENCE = st.lists(
    st.builds(Evidence, st.floats(-1, 1), st.sampled_from([0.0, 1e-9, 1e9, 1e300]) | st.floats(0, 1e6)),
    min_size=1,
    max_size=25,
)
# The 99.99th percentile of chi-square with two degrees of freedom. The seeds are fixed, so the outcome is too.
CHI_SQUARE = 18.4


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_pick(weights: list[float], uniform: float) -> None:
    """Each index owns a part of [0, 1) as long as its probability; an index with probability 0 is never picked."""
    probabilities = normalize(weights)
    index = pick(probabilities, uniform)
    assert probabilities[index] > 0
    before = fsum(probabilities[:index])
    assert before - 1e-12 <= uniform <= before + probabilities[index] + 1e-12


def test_pick_with_rounding_errors() -> None:
    """If the sum of the probabilities rounds to less than 1, the last version takes the rest."""
    assert pick([0.1] * 10 + [0.0], nextafter(1, 0)) == 9


def test_normalize() -> None:
    """Weights are divided by their sum, even if the sum is beyond the largest float."""
    assert normalize([0.3, 0.0, 0.9]) == pytest.approx([0.25, 0, 0.75], rel=1e-15)
    assert normalize([5e-324]) == normalize([1.7e308]) == [1.0]
    assert normalize([1.7e308, 1.7e308, 5e-324]) == [0.5, 0.5, 0.0]


@given(WEIGHTS)
def test_sum_of_normalized_weights(weights: list[float]) -> None:
    """Normalized weights are between 0 and 1, and their sum is 1."""
    probabilities = normalize(weights)
    assert fsum(probabilities) == pytest.approx(1, rel=1e-14)
    assert all(0 <= probability <= 1 for probability in probabilities)


@given(EVIDENCE, st.integers(0, 2**128 - 1))
def test_floor_of_thompson_sampling(evidence: list[Evidence], seed: int) -> None:
    """For any evidence the probabilities have the sum 1, and each is at least the floor."""
    probabilities = estimate_thompson(evidence, seed)
    assert len(probabilities) == len(evidence)
    assert fsum(probabilities) == pytest.approx(1, rel=1e-12)
    assert all(min(FLOOR, 1 / len(evidence)) - 1e-15 <= probability <= 1 for probability in probabilities)
    assert probabilities == estimate_thompson(evidence, seed)


def test_probability_of_being_the_best() -> None:
    """The estimate agrees with the integral over both posteriors, within five standard errors of the draws."""
    for evidence in (
        [Evidence(0.2, 10), Evidence(-0.2, 10)],
        [Evidence(1.0, 4), Evidence(0.0, 2)],
        [Evidence(), Evidence(-1.0, 3)],
    ):
        exact = _probability_that_first_is_better(*evidence)
        first, second = estimate_thompson(evidence, 7)
        assert (first - FLOOR) / (1 - 2 * FLOOR) == pytest.approx(
            exact, abs=5 * np.sqrt(exact * (1 - exact) / POSTERIOR_DRAWS)
        )
        assert first + second == pytest.approx(1)


def _probability_that_first_is_better(first: Evidence, second: Evidence) -> float:
    """Return P(X > Y) for X, Y drawn from the two posteriors, which have integer parameters.

    A Beta(a, b) is the a-th smallest of a + b - 1 uniform numbers. So X > Y means that fewer than a numbers of the
    first group come before the c-th number of the second. All orders of the numbers have the same probability.
    """
    a, b = _posterior(first)
    c, d = _posterior(second)
    n, m = a + b - 1, c + d - 1
    orders = comb(n + m, m)
    return sum(comb(i + c - 1, i) * comb(n - i + m - c, n - i) for i in range(a)) / orders


def _posterior(evidence: Evidence) -> tuple[int, int]:
    successes = evidence.rewards * (1 + evidence.mean_reward) / 2
    assert successes == pytest.approx(round(successes))
    return 1 + round(successes), 1 + round(evidence.rewards - successes)


def test_thompson_sampling_without_rewards() -> None:
    """Without rewards, all versions have the same probability, except for the variance of the draws."""
    assert estimate_thompson([Evidence()] * 3, 1) == pytest.approx([1 / 3] * 3, abs=0.03)


def test_thompson_sampling_with_clear_evidence() -> None:
    """The best version gets the probability that the floors of the others leave."""
    evidence = [Evidence(-0.5, 1e4), Evidence(0.5, 1e4), Evidence(0, 1e4)]
    assert estimate_thompson(evidence, 1) == pytest.approx([0.05, 0.9, 0.05])


def test_independence_of_estimate_and_draw() -> None:
    """The posterior draws and the draw of a version are independent, although the same id seeds both."""
    evidence = [Evidence(0.1, 5), Evidence()]
    estimates = [estimate_thompson(evidence, seed)[0] for seed in range(1000)]
    uniforms = [draw(seed)[0] for seed in range(1000)]
    assert np.std(estimates) > 0.001
    assert abs(np.corrcoef(estimates, uniforms)[0, 1]) < 4 / np.sqrt(1000)


def test_simulated_experiment() -> None:
    """Over 600 generations each version is drawn as often as its probabilities say, and the best is drawn most."""
    means = np.array([-0.2, 0.1, 0.5])
    rewards_of = np.random.default_rng(5)
    sums = np.zeros((3, 3))  # of w, w^2 and w r
    expected, picked = np.zeros(3), np.zeros(3)
    probabilities: list[float] = []
    for generation in range(600):
        evidence = [Evidence(wr / w, w * w / ww) if w else Evidence() for w, ww, wr in sums.T]
        probabilities = estimate_thompson(evidence, generation)
        index = pick(probabilities, draw(generation)[0])
        assert min(probabilities) >= FLOOR
        expected += probabilities
        picked[index] += 1
        reward = 1 if rewards_of.random() < (1 + means[index]) / 2 else -1
        w = 1 / probabilities[index]
        sums[:, index] += w, w * w, w * reward
    assert ((picked - expected) ** 2 / expected).sum() < CHI_SQUARE
    assert probabilities[2] > 0.8
    assert picked[2] > 300
    assert picked.min() > 600 * FLOOR / 2
