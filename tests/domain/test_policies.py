"""The choice of each policy and its propensities."""

from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.policies import PolicyChoice, Rule, choose, draw
from oo_ml.domain.ridge import stack
from tests.domain.beliefs import believe, draw_belief

LIKES_FIRST_FEATURE = believe(2, [(np.array([1.0, 0.0]), 1.0)])
X = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])


def choose_one(X: np.ndarray, parameters: Rule, seed: int = 0) -> PolicyChoice:
    """Make one decision, for a user who likes the first feature."""
    [choice] = choose(parameters, stack([LIKES_FIRST_FEATURE]), [0], X, [len(X)], [seed])
    return choice


def linucb(X: np.ndarray, alpha: float, exploration: float = 0.0, seed: int = 0) -> PolicyChoice:
    """Make the decision with LinUCB."""
    return choose_one(X, Rule(exploration, alpha), seed)


def epsilon_greedy(X: np.ndarray, epsilon: float, seed: int) -> PolicyChoice:
    """Make the decision with epsilon-greedy."""
    return choose_one(X, Rule(epsilon), seed)


def test_alpha_of_linucb() -> None:
    """The score is theta.x + alpha times the uncertainty; here theta = (1/2, 0)."""
    curious = linucb(X, alpha=2.0)
    sober = linucb(X, alpha=0.0)
    assert (curious.index, curious.score) == (0, 2.0)
    assert (sober.index, sober.score) == (1, 0.5)
    assert linucb(X[1:], alpha=2.0).score == pytest.approx(0.5 + 2 / np.sqrt(2))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_ties(n: int) -> None:
    """The first of several candidates with the same score wins."""
    equal = np.ones((n, 2))
    assert linucb(equal, alpha=1.0).index == 0
    assert epsilon_greedy(equal, epsilon=0.0, seed=1).index == 0


def test_propensity_without_exploration() -> None:
    """Without exploration, LinUCB chooses with propensity 1."""
    choice = linucb(X, alpha=1.0)
    assert choice.propensities.tolist() == [0.0, 1.0, 0.0]
    assert not choice.exploring


@given(st.uuids(), st.floats(0, 1), st.integers(1, 20))
def test_propensities_of_epsilon_greedy(seed: UUID, epsilon: float, n: int) -> None:
    """The greedy candidate has 1 - epsilon + epsilon/n, even if the random draw chose it; each other has epsilon/n."""
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
def test_propensities_of_linucb_with_exploration(seed: UUID, exploration: float, n: int) -> None:
    """The propensities are the mixture (1 - e) argmax + e uniform."""
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


def test_ids_without_exploration() -> None:
    """Without exploration, the decision does not depend on its id."""
    choices = [linucb(X, 1.0, 0.0, seed) for seed in range(100)]
    assert {(choice.index, choice.exploring) for choice in choices} == {(1, False)}


@pytest.mark.parametrize("policy", ["linucb", "egreedy"])
def test_frequencies_equal_propensities(policy: str) -> None:
    """Over 20,000 ids each candidate is chosen as often as its propensity says: chi-square, two degrees of freedom."""
    decisions = 20_000
    exploration = 0.3
    choices = [
        linucb(X, 1.0, exploration, seed) if policy == "linucb" else epsilon_greedy(X, exploration, seed)
        for seed in range(decisions)
    ]
    counts = np.bincount([choice.index for choice in choices], minlength=3)
    expected = decisions * choices[0].propensities
    each = exploration / 3
    assert expected == pytest.approx(decisions * np.array([each, 1 - exploration + each, each]))
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # the 99.9th percentile
    assert sum(choice.exploring for choice in choices) / decisions == pytest.approx(exploration, abs=0.01)


@given(
    st.integers(0, 2**32),
    st.sampled_from([Rule(0.0, 1.0), Rule(0.5, 0.3), Rule(0.3)]),
)
def test_independence_of_decisions_in_a_batch(seed: int, parameters: Rule) -> None:
    """Ten decisions at once, from the models of four users, equal the same decisions made alone, bit for bit."""
    rng = np.random.default_rng(seed)
    models = [draw_belief(rng, 5, index * 3) for index in range(4)]
    which = rng.integers(0, 4, size=10).tolist()
    counts = rng.integers(1, 30, size=10).tolist()
    rows = rng.normal(size=(sum(counts), 5))
    seeds = rng.integers(0, 2**63, size=10).tolist()
    together = choose(parameters, stack(models), which, rows, counts, seeds)
    for choice, model, n, end, decision in zip(together, which, counts, np.cumsum(counts), seeds, strict=True):
        [alone] = choose(parameters, stack([models[model]]), [0], rows[end - n : end], [n], [decision])
        assert (choice.index, choice.exploring) == (alone.index, alone.exploring)
        for mine, own in zip(
            (choice.exploit, choice.explore, choice.propensities),
            (alone.exploit, alone.explore, alone.propensities),
            strict=True,
        ):
            assert mine.tobytes() == own.tobytes()


def test_stability_of_draws() -> None:
    """An id gives the same draw in every release and on every machine, so that stored decisions stay explainable."""
    assert draw(UUID("01936f3e-0000-7000-8000-000000000000").int) == (0.1686118980456941, 0.45093941246454106)
    assert draw(1) != draw(2)
