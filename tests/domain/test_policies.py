"""Which candidate each policy chooses, and with what probability."""

from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.policies import choose_epsilon_greedy, choose_linucb, draw
from oo_ml.domain.ridge import Ridge, observe

LIKES_FIRST_FEATURE = observe(Ridge.fresh(2), np.array([1.0, 0.0]), 1.0)
X = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])


def test_linucb_adds_alpha_times_the_uncertainty() -> None:
    """With theta = (1/2, 0), the bound is largest where nothing is known, and alpha decides what that is worth."""
    curious = choose_linucb(LIKES_FIRST_FEATURE, X, alpha=2.0)
    sober = choose_linucb(LIKES_FIRST_FEATURE, X, alpha=0.0)
    assert (curious.index, curious.score) == (0, 2.0)
    assert (sober.index, sober.score) == (1, 0.5)
    assert choose_linucb(LIKES_FIRST_FEATURE, X[1:], alpha=2.0).score == pytest.approx(0.5 + 2 / np.sqrt(2))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_first_among_equals_wins(n: int) -> None:
    """As argmax does, and a reversed argsort would not."""
    equal = np.ones((n, 2))
    assert choose_linucb(LIKES_FIRST_FEATURE, equal, alpha=1.0).index == 0
    assert choose_epsilon_greedy(LIKES_FIRST_FEATURE, equal, epsilon=0.0, seed=1).index == 0


def test_linucb_is_certain_of_its_choice() -> None:
    """It draws nothing, so the probability of its choice is 1."""
    choice = choose_linucb(LIKES_FIRST_FEATURE, X, alpha=1.0)
    assert choice.propensities.tolist() == [0.0, 1.0, 0.0]
    assert not choice.exploring


@given(st.uuids(), st.floats(0, 1), st.integers(1, 20))
def test_propensity_is_the_probability_of_the_choice(seed: UUID, epsilon: float, n: int) -> None:
    """1 - epsilon + epsilon/n for the greedy candidate, even when it was drawn; epsilon/n for any other."""
    candidates = np.linspace([1.0, 0.0], [0.0, 1.0], n)
    choice = choose_epsilon_greedy(LIKES_FIRST_FEATURE, candidates, epsilon, seed.int)
    greedy = 0
    expected = [1 - epsilon + epsilon / n if row == greedy else epsilon / n for row in range(n)]
    assert choice.propensities == pytest.approx(expected)
    assert choice.propensities.sum() == pytest.approx(1)
    assert choice.propensities[choice.index] > 0
    assert choice.exploring or choice.index == greedy
    assert choice.score == pytest.approx(candidates[choice.index][0] / 2)


@given(st.uuids(), st.floats(0, 1), st.integers(1, 20))
def test_linucb_explores_in_the_share_it_is_told(seed: UUID, exploration: float, n: int) -> None:
    """The mixture (1 - e) argmax + e uniform: every candidate has its propensity, and the answer its own score."""
    candidates = np.linspace([1.0, 0.0], [0.0, 1.0], n)
    choice = choose_linucb(LIKES_FIRST_FEATURE, candidates, 1.0, exploration, seed.int)
    highest = int(np.argmax(choice.exploit + choice.explore))
    expected = [(1 - exploration) * (row == highest) + exploration / n for row in range(n)]
    assert choice.propensities == pytest.approx(expected)
    assert choice.propensities[choice.index] > 0
    assert choice.propensities.max() <= 1
    assert choice.exploring or choice.index == highest
    assert choice.exploring == (draw(seed.int)[0] < exploration)
    assert choice.score == choice.exploit[choice.index] + choice.explore[choice.index]


def test_without_exploration_the_id_changes_nothing() -> None:
    """The draw of an id decides only where something is drawn."""
    choices = [choose_linucb(LIKES_FIRST_FEATURE, X, 1.0, 0.0, seed) for seed in range(100)]
    assert {(choice.index, choice.exploring) for choice in choices} == {(1, False)}


@pytest.mark.parametrize("policy", ["linucb", "egreedy"])
def test_how_often_each_is_chosen_is_what_the_propensities_say(policy: str) -> None:
    """20,000 decisions with ids 0, 1, 2, ...: chi-square against the stated probabilities, two degrees of freedom."""
    decisions = 20_000
    share = 0.3
    choices = [
        choose_linucb(LIKES_FIRST_FEATURE, X, 1.0, share, seed)
        if policy == "linucb"
        else choose_epsilon_greedy(LIKES_FIRST_FEATURE, X, share, seed)
        for seed in range(decisions)
    ]
    counts = np.bincount([choice.index for choice in choices], minlength=3)
    expected = decisions * choices[0].propensities
    assert expected == pytest.approx(decisions * np.array([share / 3, 1 - share + share / 3, share / 3]))
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # the 99.9th percentile
    assert sum(choice.exploring for choice in choices) / decisions == pytest.approx(share, abs=0.01)


def test_the_same_id_gives_the_same_draw_for_ever() -> None:
    """Pinned: a stored decision must be explainable by a later release, on another machine."""
    assert draw(UUID("01936f3e-0000-7000-8000-000000000000").int) == (0.643503973413226, 0.29773946117556893)
    assert draw(1) != draw(2)
