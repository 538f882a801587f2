"""The fold of ledger entries of every kind, compared with a rebuild from the rewards that count."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from oo_ml.domain.learning import Change, Kind, Learned, fold
from oo_ml.domain.ridge import Ridge

D = 5
FRESH = Learned(Ridge.fresh(D), 0, 0.0)

_features = arrays(np.float64, D, elements=st.floats(-1, 1, allow_subnormal=False))
_reward = st.floats(-1, 1, allow_subnormal=False)


@dataclass(frozen=True, slots=True, eq=False)
class Life:
    """Changes in the order of the ledger, and the rewards that count at the end."""

    changes: list[Change]
    counting: dict[int, tuple[NDArray[np.float64], float]]


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """Draw rewards and defaults of some decisions, which are amended, retracted and given again."""
    changes: list[Change] = []
    counting: dict[int, tuple[NDArray[np.float64], float]] = {}
    for decision, x in enumerate(draw(st.lists(_features, max_size=8))):
        reward = draw(_reward)
        changes.append(Change(draw(st.sampled_from([Kind.REWARD, Kind.DEFAULT])), x, reward))
        counting[decision] = (x, reward)
    features = [change.x for change in changes]
    for _ in range(draw(st.integers(0, 12)) if features else 0):
        decision = draw(st.integers(0, len(features) - 1))
        x, before = counting.get(decision, (features[decision], None))
        after = draw(st.none() | _reward)
        if before is None and after is not None:
            changes.append(Change(Kind.REWARD, x, after))
            counting[decision] = (x, after)
        elif before is not None and after is not None:
            changes.append(Change(Kind.AMEND, x, after, before))
            counting[decision] = (x, after)
        elif before is not None:
            changes.append(Change(Kind.RETRACT, x, None, before))
            del counting[decision]
    return Life(changes, counting)


def fold_all(changes: list[Change]) -> Learned:
    """Fold the changes, starting from a fresh state."""
    learned = FRESH
    for change in changes:
        learned = fold(learned, change)
    return learned


@given(lives())
def test_fold_equals_rebuild(life: Life) -> None:
    """A = I + sum of x x^T and b = sum of r x over the rewards that count, within rounding; the counters too."""
    learned = fold_all(life.changes)
    A, b = np.eye(D), np.zeros(D)
    for x, reward in life.counting.values():
        A += np.outer(x, x)
        b += reward * x
    np.testing.assert_allclose(learned.model.A, A, atol=1e-12)
    np.testing.assert_allclose(learned.model.b, b, atol=1e-12)
    assert learned.reward_count == len(life.counting)
    assert learned.cumulative_reward == pytest.approx(sum(r for _, r in life.counting.values()), abs=1e-12)


@given(lives())
def test_positive_definiteness_after_each_change(life: Life) -> None:
    """After each change A is symmetric bit for bit, and no eigenvalue is below 1, within rounding."""
    learned = FRESH
    for change in life.changes:
        learned = fold(learned, change)
        assert np.array_equal(learned.model.A, learned.model.A.T)
        assert np.linalg.eigvalsh(learned.model.A)[0] >= 1 - 1e-9


@given(lives())
def test_fold_equals_naive_loops(life: Life) -> None:
    """The fold equals, bit for bit, loops over single elements with Python's floats in the order of the ledger."""
    A = [[float(i == j) for j in range(D)] for i in range(D)]
    b = [0.0] * D
    total = 0.0
    for change in life.changes:
        x = change.x.tolist()
        weight = {Kind.REWARD: 1, Kind.DEFAULT: 1, Kind.AMEND: 0, Kind.RETRACT: -1}[change.kind]
        for i in range(D):
            for j in range(D):
                A[i][j] += weight * (x[i] * x[j])
        if change.kind is Kind.RETRACT:
            assert change.previous_reward is not None
            difference = -change.previous_reward
        else:
            difference = (change.reward or 0.0) - (change.previous_reward or 0.0)
        for i in range(D):
            b[i] += difference * x[i]
        total += difference
    learned = fold_all(life.changes)
    assert learned.model.A.tolist() == A
    assert learned.model.b.tolist() == b
    assert learned.cumulative_reward == total


@given(_features, _reward, _reward)
def test_amend(x: NDArray[np.float64], first: float, second: float) -> None:
    """After an amend, A is unchanged, b is that of the second reward within rounding, and one reward counts."""
    amended = fold_all([Change(Kind.REWARD, x, first), Change(Kind.AMEND, x, second, first)])
    direct = fold_all([Change(Kind.REWARD, x, second)])
    assert np.array_equal(amended.model.A, direct.model.A)
    np.testing.assert_allclose(amended.model.b, direct.model.b, atol=1e-15)
    assert amended.reward_count == 1


@pytest.mark.parametrize(
    "change",
    [
        Change(Kind.REWARD, np.ones(D), None),
        Change(Kind.REWARD, np.ones(D), 1.0, 0.5),
        Change(Kind.AMEND, np.ones(D), 1.0),
        Change(Kind.RETRACT, np.ones(D), 1.0, 1.0),
        Change(Kind.RETRACT, np.ones(D), None),
        Change(Kind.IMPORT, np.ones(D), 1.0),
    ],
)
def test_inconsistent_change(change: Change) -> None:
    """A change whose kind and rewards contradict each other is refused."""
    with pytest.raises(ValueError, match="expected a valid change, found "):
        fold(FRESH, change)
