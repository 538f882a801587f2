"""With which probability a version is picked, and that it is the one that is stored."""

from math import comb, fsum, nextafter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.experiments import FLOOR, POSTERIOR_DRAWS, Evidence, pick, shares, thompson
from oo_ml.domain.policies import draw

WEIGHTS = st.lists(st.floats(0, 1.7e308), min_size=1, max_size=30).filter(any)
EVIDENCE = st.lists(
    st.builds(Evidence, st.floats(-1, 1), st.sampled_from([0.0, 1e-9, 1e9, 1e300]) | st.floats(0, 1e6)),
    min_size=1,
    max_size=25,
)
# The 99.99th percentile of chi-square with two degrees of freedom; seeds are fixed, so what is below it once stays so.
CHI_SQUARE = 18.4


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_a_place_is_picked_with_its_probability(weights: list[float], uniform: float) -> None:
    """The numbers that lead to it are as many as its share of [0, 1); one without a share is never picked."""
    probabilities = shares(weights)
    place = pick(probabilities, uniform)
    assert probabilities[place] > 0
    before = fsum(probabilities[:place])
    assert before - 1e-12 <= uniform <= before + probabilities[place] + 1e-12


def test_the_last_place_is_not_lost_to_rounding() -> None:
    """Ten times 0.1 is a little less than one."""
    assert pick([0.1] * 10 + [0.0], nextafter(1, 0)) == 9


def test_shares_are_weights_by_their_sum() -> None:
    """However large or small: the largest number there is, twice, and the smallest."""
    assert shares([0.3, 0.0, 0.9]) == pytest.approx([0.25, 0, 0.75], rel=1e-15)
    assert shares([5e-324]) == shares([1.7e308]) == [1.0]
    assert shares([1.7e308, 1.7e308, 5e-324]) == [0.5, 0.5, 0.0]


@given(WEIGHTS)
def test_shares_have_the_sum_one(weights: list[float]) -> None:
    """And none is more than all of it."""
    probabilities = shares(weights)
    assert fsum(probabilities) == pytest.approx(1, rel=1e-14)
    assert all(0 <= share <= 1 for share in probabilities)


@given(EVIDENCE, st.integers(0, 2**128 - 1))
def test_whatever_the_rewards_say_they_are_probabilities_and_none_is_below_the_floor(
    evidence: list[Evidence], seed: int
) -> None:
    """No, or infinitely many, or contradictory rewards; one version or more than twenty, which share alike."""
    probabilities = thompson(evidence, seed)
    assert len(probabilities) == len(evidence)
    assert fsum(probabilities) == pytest.approx(1, rel=1e-12)
    assert all(min(FLOOR, 1 / len(evidence)) - 1e-15 <= one <= 1 for one in probabilities)
    assert probabilities == thompson(evidence, seed)


def test_the_estimate_is_the_probability_of_being_the_best() -> None:
    """Of two versions: what integrating over both posteriors gives, to five standard errors of the posterior draws."""
    for evidence in (
        [Evidence(0.2, 10), Evidence(-0.2, 10)],
        [Evidence(1.0, 4), Evidence(0.0, 2)],
        [Evidence(), Evidence(-1.0, 3)],
    ):
        exact = _first_is_better(*evidence)
        first, second = thompson(evidence, 7)
        assert (first - FLOOR) / (1 - 2 * FLOOR) == pytest.approx(
            exact, abs=5 * np.sqrt(exact * (1 - exact) / POSTERIOR_DRAWS)
        )
        assert first + second == pytest.approx(1)


def _first_is_better(first: Evidence, second: Evidence) -> float:
    """Return P(X > Y) for X, Y with the posteriors of both, whose parameters are integers.

    A Beta(a, b) is the a-th least of a + b - 1 uniform numbers: X > Y is that fewer than a of the one kind come before
    the c-th of the other, among all orders alike.
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


def test_without_rewards_all_are_alike() -> None:
    """But for the chance of the draws."""
    assert thompson([Evidence()] * 3, 1) == pytest.approx([1 / 3] * 3, abs=0.03)


def test_what_is_surely_the_best_gets_all_but_the_floors() -> None:
    """And what is surely not gets its floor: no version is given up."""
    assert thompson([Evidence(-0.5, 1e4), Evidence(0.5, 1e4), Evidence(0, 1e4)], 1) == pytest.approx([0.05, 0.9, 0.05])


def test_what_is_drawn_from_does_not_depend_on_what_draws() -> None:
    """The same id decides both: with little evidence the estimate wavers, and the uniform number says nothing of it."""
    evidence = [Evidence(0.1, 5), Evidence()]
    estimates = [thompson(evidence, seed)[0] for seed in range(1000)]
    uniforms = [draw(seed)[0] for seed in range(1000)]
    assert np.std(estimates) > 0.001
    assert abs(np.corrcoef(estimates, uniforms)[0, 1]) < 4 / np.sqrt(1000)


def test_what_is_stored_is_how_often_it_happens_and_the_best_gets_most() -> None:
    """Three versions with known mean rewards, 600 generations, each judged by the weighted rewards of all before it."""
    means = np.array([-0.2, 0.1, 0.5])
    rewards_of = np.random.default_rng(5)
    sums = np.zeros((3, 3))  # of w, w^2 and w r
    expected, picked = np.zeros(3), np.zeros(3)
    probabilities: list[float] = []
    for generation in range(600):
        evidence = [Evidence(wr / w, w * w / ww) if w else Evidence() for w, ww, wr in sums.T]
        probabilities = thompson(evidence, generation)
        place = pick(probabilities, draw(generation)[0])
        assert min(probabilities) >= FLOOR
        expected += probabilities
        picked[place] += 1
        reward = 1 if rewards_of.random() < (1 + means[place]) / 2 else -1
        w = 1 / probabilities[place]
        sums[:, place] += w, w * w, w * reward
    assert ((picked - expected) ** 2 / expected).sum() < CHI_SQUARE
    assert probabilities[2] > 0.8
    assert picked[2] > 300
    assert picked.min() > 600 * FLOOR / 2
