"""The vote of a rule with a sigma: its points, its propensities, and the draw."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from oo_ml.domain.policies import VOTES, PolicyChoice, Rule, choose, draw, fixed_points
from oo_ml.domain.ridge import Ridge, stack
from tests.domain.beliefs import draw_belief

RULES = st.builds(
    Rule, st.sampled_from([0.0, 0.02, 0.5, 1.0]), st.sampled_from([None, 0.0, 1.0]), st.sampled_from([0.1, 0.3, 1.0])
)


def choose_one(rule: Rule, model: Ridge, X: NDArray[np.float64], seed: int = 0) -> PolicyChoice:
    """Make one decision."""
    [choice] = choose(rule, stack([model]), [0], X, [len(X)], [seed])
    return choice


@pytest.mark.parametrize("dimension", range(1, 65))
def test_points(dimension: int) -> None:
    """The points are mirrored, so their mean is 0; each coordinate has a variance of about 1."""
    points = fixed_points(dimension)
    assert points.shape == (VOTES, dimension)
    assert np.array_equal(points[: VOTES // 2], -points[VOTES // 2 :])
    assert (points**2).mean() == pytest.approx(1, abs=0.2)
    assert len({tuple(point) for point in points.tolist()}) == VOTES


def test_stability_of_points() -> None:
    """The points are the same in every release, so that the propensities of stored decisions can be recomputed."""
    points = fixed_points(3)
    assert points[0].tolist() == pytest.approx([-0.47001398389883, -0.95004927947828, -1.64776474674969], abs=1e-12)
    assert points[31].tolist() == pytest.approx([0.56369878760783, 1.93321943992961, -1.33820203563529], abs=1e-12)
    assert fixed_points(12)[5, ::4].tolist() == pytest.approx(
        [-0.93005551943866, -1.68029501288802, -1.07326663353618], abs=1e-12
    )


def count_votes(rule: Rule, model: Ridge, X: NDArray[np.float64]) -> list[float]:
    """Return the propensities by the formula of the rule, vote by vote."""
    V = np.linalg.inv(model.A)
    m = V @ model.b
    root = np.linalg.inv(np.linalg.cholesky(model.A)).T
    counts = [0] * len(X)
    for z in fixed_points(model.dimension):
        indexes = [m @ x + (rule.alpha or 0) * np.sqrt(x @ V @ x) + rule.sigma * (root @ z) @ x for x in X]
        counts[int(np.argmax(indexes))] += 1
    return [(1 - rule.exploration) * count / VOTES + rule.exploration / len(X) for count in counts]


@given(RULES, st.integers(0, 2**32), st.sampled_from([1, 2, 5, 12]), st.integers(1, 12))
def test_propensities(rule: Rule, seed: int, dimension: int, n: int) -> None:
    """The propensity of a candidate is its share of the votes, but for the exploration: sum 1, each at least e/n."""
    rng = np.random.default_rng(seed)
    model = draw_belief(rng, dimension, 5)
    X = rng.normal(size=(n, dimension))
    choice = choose_one(rule, model, X, seed)
    assert choice.propensities.tolist() == pytest.approx(count_votes(rule, model, X))
    assert choice.propensities.sum() == pytest.approx(1)
    assert (choice.propensities >= rule.exploration / n).all()
    assert choice.propensities.max() <= 1
    assert choice.propensities[choice.index] > 0
    assert choice.score == choice.exploit[choice.index] + choice.explore[choice.index]


@given(RULES, st.integers(0, 2**32), st.sampled_from([1, 5, 12, 64]), st.integers(1, 10), st.integers(2, 5))
def test_equal_candidates(rule: Rule, seed: int, dimension: int, n: int, times: int) -> None:
    """Equal candidates have equal scores, bit for bit, and the first of them gets all their votes."""
    rng = np.random.default_rng(seed)
    model = draw_belief(rng, dimension, 5)
    X = rng.normal(size=(n, dimension))
    choice = choose_one(rule, model, np.tile(X, (times, 1)))
    alone = choose_one(Rule(0.0, rule.alpha, rule.sigma), model, X)
    for scores in (choice.exploit, choice.explore):
        assert all(part.tobytes() == scores[:n].tobytes() for part in np.split(scores, times))
    floor = rule.exploration / (n * times)
    assert choice.propensities[:n] == pytest.approx((1 - rule.exploration) * alone.propensities + floor)
    assert choice.propensities[n:] == pytest.approx(floor)


@settings(max_examples=30)
@given(RULES, st.integers(0, 2**32), st.sampled_from([1, 2, 3, 5, 7, 12, 31, 32, 64]))
def test_independence_of_decisions_in_a_batch(rule: Rule, seed: int, dimension: int) -> None:
    """Decisions at once, from the models of several users, equal the same decisions made alone, bit for bit."""
    rng = np.random.default_rng(seed)
    models = [draw_belief(rng, dimension, rewards) for rewards in (0, 3, 9)]
    which = rng.integers(0, 3, size=8).tolist()
    counts = rng.integers(1, 30, size=8).tolist()
    X = rng.normal(size=(sum(counts), dimension))
    seeds = rng.integers(0, 2**63, size=8).tolist()
    together = choose(rule, stack(models), which, X, counts, seeds)
    ends = np.cumsum(counts)
    for choice, model, n, end, decision in zip(together, which, counts, ends, seeds, strict=True):
        alone = choose_one(rule, models[model], X[end - n : end], decision)
        assert (choice.index, choice.exploring) == (alone.index, alone.exploring)
        assert choice.propensities.tobytes() == alone.propensities.tobytes()
        assert choice.exploit.tobytes() == alone.exploit.tobytes()
        assert choice.explore.tobytes() == alone.explore.tobytes()


@pytest.mark.parametrize("rule", [Rule(0.0, None, 1.0), Rule(0.3, 1.0, 0.5), Rule(0.02, 1.0, 0.3)], ids=str)
def test_frequencies_equal_propensities(rule: Rule) -> None:
    """Over 20,000 ids each candidate is chosen as often as its propensity says: chi-square, four degrees of freedom."""
    rng = np.random.default_rng(3)
    model = draw_belief(rng, 3, 4)
    X = rng.normal(size=(5, 3)) / 2
    decisions = 20_000
    choices = choose(
        rule, stack([model]), [0] * decisions, np.tile(X, (decisions, 1)), [5] * decisions, range(decisions)
    )
    counts = np.bincount([choice.index for choice in choices], minlength=5)
    expected = decisions * choices[0].propensities
    assert (counts[expected == 0] == 0).all()
    shown = expected > 0
    assert shown.sum() > 2
    assert ((counts - expected)[shown] ** 2 / expected[shown]).sum() < 18.47  # the 99.9th percentile
    # A vote draws nothing uniformly.
    assert all(choice.exploring == (draw(seed)[0] < rule.exploration) for seed, choice in enumerate(choices))


@pytest.mark.parametrize("dimension", [2, 5, 12, 32])
def test_thompson_sampling(dimension: int) -> None:
    """With sigma 1 alone, the votes are near the probabilities that theta, drawn from N(m, V), favours a candidate.

    The mean distance, half the sum of the differences, over 100 decisions among ten candidates; 64 draws of the
    posterior at random would have 0.13.
    """
    rng = np.random.default_rng(dimension)
    distances = []
    for _ in range(100):
        model = draw_belief(rng, dimension, 8)
        X = rng.normal(size=(10, dimension))
        V = np.linalg.inv(model.A)
        drawn = rng.multivariate_normal(V @ model.b, V, size=4000)
        frequencies = np.bincount((X @ drawn.T).argmax(axis=0), minlength=10) / 4000
        propensities = choose_one(Rule(0.0, None, 1.0), model, X).propensities
        distances.append(np.abs(frequencies - propensities).sum() / 2)
    assert np.mean(distances) < 0.15
