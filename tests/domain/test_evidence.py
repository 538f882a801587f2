"""Evidence: sums of weighted rewards, and changes of rewards that are in them already."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from oo_ml.domain.evidence import Evidence, adjust, forget, observe

D = 3
Reward = tuple[NDArray[np.float64], float, float]

_features = arrays(np.float64, D, elements=st.floats(-1, 1, allow_subnormal=False))
_reward = st.floats(-1, 1, allow_subnormal=False)
# x, r and g.
_rewards = st.lists(st.tuples(_features, _reward, st.floats(0.01, 100)), max_size=20)


def observe_all(fresh: Evidence, rewards: list[Reward]) -> Evidence:
    """Return the evidence after some rewards."""
    for x, reward, weight in rewards:
        fresh = observe(fresh, x, reward, weight)
    return fresh


def assert_close(one: Evidence, other: Evidence) -> None:
    """Compare all sums, up to rounding."""
    np.testing.assert_allclose(one.A, other.A, atol=1e-10)
    np.testing.assert_allclose(one.b, other.b, atol=1e-10)
    assert (one.weight, one.squares) == pytest.approx((other.weight, other.squares), abs=1e-10)


@given(_rewards)
def test_sums_of_a_user_who_learns_alone(rewards: list[Reward]) -> None:
    """A = I + X^T X and b = X^T r, if every reward counts 1; there are no other sums."""
    evidence = observe_all(Evidence.alone(D), [(x, reward, 1.0) for x, reward, _ in rewards])
    X = np.array([x for x, _, _ in rewards]).reshape(-1, D)
    np.testing.assert_allclose(evidence.A, np.eye(D) + X.T @ X, atol=1e-12)
    np.testing.assert_allclose(evidence.b, X.T @ np.array([reward for _, reward, _ in rewards]), atol=1e-12)
    assert evidence.weight is evidence.squares is None


@given(_rewards)
def test_sums_of_a_user_of_a_pooled_policy(rewards: list[Reward]) -> None:
    """With the weights g on the diagonal of G: A = X^T G X, b = X^T G r, the sum of g, and r^T G r."""
    evidence = observe_all(Evidence.pooled(D), rewards)
    X = np.array([x for x, _, _ in rewards]).reshape(-1, D)
    r, g = (np.array([one[place] for one in rewards]) for place in (1, 2))
    expected = Evidence(X.T @ np.diag(g) @ X, X.T @ (g * r), float(g.sum()), float((g * r**2).sum()))
    assert_close(evidence, expected)


@given(_rewards)
def test_symmetry(rewards: list[Reward]) -> None:
    """A is symmetric bit for bit, with no eigenvalue below 1 for a user who learns alone, within rounding."""
    evidence = observe_all(Evidence.alone(D), rewards)
    assert np.array_equal(evidence.A, evidence.A.T)
    assert np.linalg.eigvalsh(evidence.A)[0] >= 1 - 1e-9


@given(_rewards, st.randoms(use_true_random=False))
def test_order_of_arrival(rewards: list[Reward], random: Random) -> None:
    """The order in which rewards arrive makes no difference, up to rounding."""
    shuffled = random.sample(rewards, len(rewards))
    assert_close(observe_all(Evidence.pooled(D), shuffled), observe_all(Evidence.pooled(D), rewards))


@pytest.mark.parametrize("fresh", [Evidence.alone(D), Evidence.pooled(D)], ids=["alone", "pooled"])
@given(rewards=_rewards, x=_features, first=_reward, second=_reward)
def test_adjust_and_forget(fresh: Evidence, rewards: list[Reward], x: np.ndarray, first: float, second: float) -> None:
    """After `adjust` the first reward never was, and after `forget` none, up to rounding."""
    before = observe_all(fresh, rewards)
    observed = observe(before, x, first, 2.5)
    assert_close(adjust(observed, x, second, first, 2.5), observe(before, x, second, 2.5))
    assert_close(forget(observed, x, first, 2.5), before)
    assert_close(forget(adjust(observed, x, second, first, 2.5), x, second, 2.5), before)


def test_rewards_do_not_change_earlier_evidence() -> None:
    """Evidence is immutable: a batch may hold several states of a user."""
    before = Evidence.pooled(D)
    after = observe(before, np.ones(D), 1.0)
    adjust(after, np.ones(D), 0.5, 1.0)
    forget(after, np.ones(D), 1.0)
    assert before.A.tolist() == [[0.0] * D] * D
    assert (before.b.tolist(), before.weight, before.squares) == ([0.0] * D, 0.0, 0.0)
    assert (after.b.tolist(), after.weight, after.squares) == ([1.0] * D, 1.0, 1.0)


@pytest.mark.parametrize("fresh", [Evidence.alone(D), Evidence.pooled(D)], ids=["alone", "pooled"])
def test_fresh(fresh: Evidence) -> None:
    """`fresh` is the evidence before the first reward, of the same policy."""
    again = observe(fresh, np.ones(D), 1.0).fresh()
    assert (again.A.tolist(), again.b.tolist()) == (fresh.A.tolist(), fresh.b.tolist())
    assert (again.weight, again.squares, again.dimension) == (fresh.weight, fresh.squares, D)
