"""The ridge regression, compared with naive formulas."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oo_ml.domain.ridge import Ridge, intervals, stack, theta, whiten
from tests.domain.beliefs import believe

_features = arrays(np.float64, 5, elements=st.floats(-1, 1, allow_subnormal=False))
_rewards = st.lists(st.tuples(_features, st.floats(-1, 1, allow_subnormal=False)), max_size=30)


def _width(state: Ridge, x: np.ndarray) -> float:
    return float(np.linalg.norm(whiten(stack([state]), [0], x[np.newaxis], [1])))


@given(_rewards)
def test_ridge_regression(rewards: list[tuple[np.ndarray, float]]) -> None:
    """Theta is the solution of least squares with a penalty of 1."""
    state = believe(5, rewards)
    X = np.array([x for x, _ in rewards]).reshape(-1, 5)
    r = np.array([reward for _, reward in rewards])
    penalised, *_ = np.linalg.lstsq(np.vstack([X, np.eye(5)]), np.concatenate([r, np.zeros(5)]), rcond=None)
    np.testing.assert_allclose(theta(state), penalised, atol=1e-9)


@given(_rewards, _features)
def test_uncertainty(rewards: list[tuple[np.ndarray, float]], x: np.ndarray) -> None:
    """The uncertainty equals sqrt(x^T A^-1 x), computed here with an explicit inverse."""
    state = believe(5, rewards)
    width = _width(state, x)
    assert np.isclose(width, np.sqrt(x @ np.linalg.inv(state.A) @ x), rtol=1e-9, atol=1e-12)


def test_many_rows() -> None:
    """Each row is whitened by its own model, and the same as alone, bit for bit."""
    rng = np.random.default_rng(1)
    models = stack([believe(64, [(x, 0.5)]) for x in rng.normal(size=(2, 64))])
    rows = rng.normal(size=(9, 64))
    together = whiten(models, [1, 0, 1], rows, [5, 0, 4])
    for row in range(9):
        assert np.array_equal(together[row], whiten(models, [1], rows[row : row + 1], [1])[0])
    np.testing.assert_allclose(np.linalg.cholesky(models.A[1]) @ together.T, rows.T, atol=1e-12)
    assert whiten(models, [], rows[:0], []).shape == (0, 64)


@given(_rewards, _features)
def test_uncertainty_after_a_reward(rewards: list[tuple[np.ndarray, float]], x: np.ndarray) -> None:
    """No reward increases the uncertainty."""
    before, after = believe(5, rewards), believe(5, [*rewards, (x, 0.0)])
    assert _width(after, x) <= _width(before, x) + 1e-12


@given(_rewards)
def test_intervals(rewards: list[tuple[np.ndarray, float]]) -> None:
    """Each interval is theta_i -+ 1.96 sqrt((A^-1)_ii), computed here with an explicit inverse."""
    state = believe(5, rewards)
    widths = 1.959963984540054 * np.sqrt(np.diag(np.linalg.inv(state.A)))
    expected = np.stack([theta(state) - widths, theta(state) + widths], axis=1)
    np.testing.assert_allclose(intervals(state), expected, rtol=1e-9, atol=1e-12)


@given(_rewards, st.floats(0.01, 0.99))
def test_levels_of_intervals(rewards: list[tuple[np.ndarray, float]], level: float) -> None:
    """Intervals of a lower level lie within those of a higher one, around the same theta."""
    state = believe(5, rewards)
    inner, outer = intervals(state, level), intervals(state, (1 + level) / 2)
    assert (outer[:, 0] <= inner[:, 0]).all()
    assert (inner[:, 1] <= outer[:, 1]).all()
    np.testing.assert_allclose(inner.mean(axis=1), theta(state), atol=1e-12)


def test_intervals_without_rewards() -> None:
    """Before the first reward each number is 0 -+ 1.96, the prior N(0, 1)."""
    np.testing.assert_allclose(intervals(believe(3)), [[-1.959964, 1.959964]] * 3, atol=1e-6)
