"""Which candidate each policy chooses, and with what probability."""

from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.policies import Choice, Rule, choose, draw
from oo_ml.domain.ridge import Ridge, observe, stack

LIKES_FIRST_FEATURE = observe(Ridge.fresh(2), np.array([1.0, 0.0]), 1.0)
X = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])


def choose_one(X: np.ndarray, rule: Rule, seed: int = 0) -> Choice:
    """A decision by itself, for somebody who likes the first feature."""
    [choice] = choose(rule, stack([LIKES_FIRST_FEATURE]), [0], X, [len(X)], [seed])
    return choice


def linucb(X: np.ndarray, alpha: float, exploration: float = 0.0, seed: int = 0) -> Choice:
    """The same, by LinUCB."""
    return choose_one(X, Rule(exploration, alpha), seed)


def epsilon_greedy(X: np.ndarray, epsilon: float, seed: int) -> Choice:
    """The same, by epsilon-greedy."""
    return choose_one(X, Rule(epsilon), seed)


def test_linucb_adds_alpha_times_the_uncertainty() -> None:
    """With theta = (1/2, 0), the bound is largest where nothing is known, and alpha decides what that is worth."""
    curious = linucb(X, alpha=2.0)
    sober = linucb(X, alpha=0.0)
    assert (curious.index, curious.score) == (0, 2.0)
    assert (sober.index, sober.score) == (1, 0.5)
    assert linucb(X[1:], alpha=2.0).score == pytest.approx(0.5 + 2 / np.sqrt(2))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_first_among_equals_wins(n: int) -> None:
    """As argmax does, and a reversed argsort would not."""
    equal = np.ones((n, 2))
    assert linucb(equal, alpha=1.0).index == 0
    assert epsilon_greedy(equal, epsilon=0.0, seed=1).index == 0


def test_linucb_is_certain_of_its_choice() -> None:
    """It draws nothing, so the probability of its choice is 1."""
    choice = linucb(X, alpha=1.0)
    assert choice.propensities.tolist() == [0.0, 1.0, 0.0]
    assert not choice.exploring


@given(st.uuids(), st.floats(0, 1), st.integers(1, 20))
def test_propensity_is_the_probability_of_the_choice(seed: UUID, epsilon: float, n: int) -> None:
    """1 - epsilon + epsilon/n for the greedy candidate, even when it was drawn; epsilon/n for any other."""
    candidates = np.linspace([1.0, 0.0], [0.0, 1.0], n)
    choice = epsilon_greedy(candidates, epsilon, seed.int)
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
    choice = linucb(candidates, 1.0, exploration, seed.int)
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
    choices = [linucb(X, 1.0, 0.0, seed) for seed in range(100)]
    assert {(choice.index, choice.exploring) for choice in choices} == {(1, False)}


@pytest.mark.parametrize("policy", ["linucb", "egreedy"])
def test_how_often_each_is_chosen_is_what_the_propensities_say(policy: str) -> None:
    """20,000 decisions with ids 0, 1, 2, ...: chi-square against the stated probabilities, two degrees of freedom."""
    decisions = 20_000
    share = 0.3
    choices = [
        linucb(X, 1.0, share, seed) if policy == "linucb" else epsilon_greedy(X, share, seed)
        for seed in range(decisions)
    ]
    counts = np.bincount([choice.index for choice in choices], minlength=3)
    expected = decisions * choices[0].propensities
    assert expected == pytest.approx(decisions * np.array([share / 3, 1 - share + share / 3, share / 3]))
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # the 99.9th percentile
    assert sum(choice.exploring for choice in choices) / decisions == pytest.approx(share, abs=0.01)


@given(st.integers(0, 2**32), st.sampled_from([Rule(0.0, 1.0), Rule(0.5, 0.3), Rule(0.3)]))
def test_a_decision_does_not_depend_on_those_made_together_with_it(seed: int, rule: Rule) -> None:
    """Bit for bit: ten decisions from four users' models at once, and each of them alone."""
    rng = np.random.default_rng(seed)
    models = [Ridge.fresh(5) for _ in range(4)]
    for place in range(4):
        for x in rng.normal(size=(place * 3, 5)):
            models[place] = observe(models[place], x, rng.uniform(-1, 1))
    which = rng.integers(0, 4, size=10).tolist()
    counts = rng.integers(1, 30, size=10).tolist()
    rows = rng.normal(size=(sum(counts), 5))
    seeds = rng.integers(0, 2**63, size=10).tolist()
    together = choose(rule, stack(models), which, rows, counts, seeds)
    for choice, place, n, end, one in zip(together, which, counts, np.cumsum(counts), seeds, strict=True):
        [alone] = choose(rule, stack([models[place]]), [0], rows[end - n : end], [n], [one])
        assert (choice.index, choice.exploring) == (alone.index, alone.exploring)
        for mine, own in zip(
            (choice.exploit, choice.explore, choice.propensities),
            (alone.exploit, alone.explore, alone.propensities),
            strict=True,
        ):
            assert mine.tobytes() == own.tobytes()


def test_the_same_id_gives_the_same_draw_for_ever() -> None:
    """Pinned: a stored decision must be explainable by a later release, on another machine."""
    assert draw(UUID("01936f3e-0000-7000-8000-000000000000").int) == (0.643503973413226, 0.29773946117556893)
    assert draw(1) != draw(2)
