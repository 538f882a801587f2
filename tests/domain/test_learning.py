"""The fold of ledger entries of every kind, compared with a rebuild from the rewards that count."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from oo_ml.domain.evidence import Evidence
from oo_ml.domain.learning import Change, Kind, Learned, Replayed, StoredEntry, fold, fold_entry

D = 5
ALONE, POOLED = Evidence.alone(D), Evidence.pooled(D)
FRESH = Learned(ALONE, 0, 0.0)

_features = arrays(np.float64, D, elements=st.floats(-1, 1, allow_subnormal=False))
_reward = st.floats(-1, 1, allow_subnormal=False)


@dataclass(frozen=True, slots=True, eq=False)
class Life:
    """Changes in the order of the ledger, and the rewards that count at the end: x, r and g by decision."""

    fresh: Evidence
    changes: list[Change]
    counting: dict[int, tuple[NDArray[np.float64], float, float]]


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """Draw rewards and defaults of some decisions, which are amended, retracted and given again.

    By a pooled policy each decision has its weight.
    """
    fresh = draw(st.sampled_from([ALONE, POOLED]))
    weights = st.just(1.0) if fresh is ALONE else st.floats(0.1, 10)
    changes: list[Change] = []
    counting: dict[int, tuple[NDArray[np.float64], float, float]] = {}
    for decision, x in enumerate(draw(st.lists(_features, max_size=8))):
        reward, g = draw(_reward), draw(weights)
        changes.append(Change(draw(st.sampled_from([Kind.REWARD, Kind.DEFAULT, Kind.WARM])), x, reward, None, g))
        counting[decision] = (x, reward, g)
    first = list(changes)
    for _ in range(draw(st.integers(0, 12)) if first else 0):
        decision = draw(st.integers(0, len(first) - 1))
        x, g = first[decision].x, first[decision].weight or 1.0
        before = counting[decision][1] if decision in counting else None
        after = draw(st.none() | _reward)
        if before is None and after is not None:
            changes.append(Change(Kind.REWARD, x, after, None, g))
            counting[decision] = (x, after, g)
        elif before is not None and after is not None:
            changes.append(Change(Kind.AMEND, x, after, before, g))
            counting[decision] = (x, after, g)
        elif before is not None:
            changes.append(Change(Kind.RETRACT, x, None, before, g))
            del counting[decision]
    return Life(fresh, changes, counting)


def fold_all(changes: list[Change], fresh: Evidence = ALONE) -> Learned:
    """Fold the changes, starting from a fresh state."""
    learned = Learned(fresh, 0, 0.0)
    for change in changes:
        learned = fold(learned, change)
    return learned


@given(lives())
def test_fold_equals_rebuild(life: Life) -> None:
    """A is the sum of g x x^T and b that of g r x over the rewards that count, within rounding; so with all sums."""
    learned = fold_all(life.changes, life.fresh)
    A, b, weight, squares = life.fresh.A.copy(), np.zeros(D), 0.0, 0.0
    for x, reward, g in life.counting.values():
        A += g * np.outer(x, x)
        b += g * reward * x
        weight += g
        squares += g * reward**2
    np.testing.assert_allclose(learned.evidence.A, A, atol=1e-11)
    np.testing.assert_allclose(learned.evidence.b, b, atol=1e-11)
    if life.fresh is POOLED:
        assert (learned.evidence.weight, learned.evidence.squares) == pytest.approx((weight, squares), abs=1e-11)
    else:
        assert learned.evidence.weight is learned.evidence.squares is None
    assert learned.reward_count == len(life.counting)
    assert learned.cumulative_reward == pytest.approx(sum(r for _, r, _ in life.counting.values()), abs=1e-12)


@given(lives())
def test_positive_definiteness_after_each_change(life: Life) -> None:
    """After each change A is symmetric bit for bit, and no eigenvalue is below that of the start, within rounding."""
    learned = Learned(life.fresh, 0, 0.0)
    for change in life.changes:
        learned = fold(learned, change)
        assert np.array_equal(learned.evidence.A, learned.evidence.A.T)
        assert np.linalg.eigvalsh(learned.evidence.A)[0] >= (life.fresh is ALONE) - 1e-9


@given(lives())
def test_fold_equals_naive_loops(life: Life) -> None:
    """The fold equals, bit for bit, loops over single elements with Python's floats in the order of the ledger."""
    A = life.fresh.A.tolist()
    b = [0.0] * D
    total = 0.0
    for change in life.changes:
        x, g = change.x.tolist(), change.weight or 1.0
        sign = {Kind.AMEND: 0, Kind.RETRACT: -1}.get(change.kind, 1)
        for i in range(D):
            for j in range(D):
                A[i][j] += sign * (g * (x[i] * x[j]))
        if change.kind is Kind.RETRACT:
            assert change.previous_reward is not None
            difference = -change.previous_reward
        else:
            difference = (change.reward or 0.0) - (change.previous_reward or 0.0)
        for i in range(D):
            b[i] += g * difference * x[i]
        total += difference
    learned = fold_all(life.changes, life.fresh)
    assert learned.evidence.A.tolist() == A
    assert learned.evidence.b.tolist() == b
    assert learned.cumulative_reward == total


@given(_features, _reward, _reward)
def test_amend(x: NDArray[np.float64], first: float, second: float) -> None:
    """After an amend, A is unchanged, b is that of the second reward within rounding, and one reward counts."""
    amended = fold_all([Change(Kind.REWARD, x, first), Change(Kind.AMEND, x, second, first)])
    direct = fold_all([Change(Kind.REWARD, x, second)])
    assert np.array_equal(amended.evidence.A, direct.evidence.A)
    np.testing.assert_allclose(amended.evidence.b, direct.evidence.b, atol=1e-15)
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


def build_entry(version: int, *, epoch: int = 1, weight: float | None = None) -> StoredEntry:
    """Return an entry of the ledger: a reward of 0.5 for a row of ones."""
    return StoredEntry("ada", "p", epoch, version, "reward", 0.5, None, np.ones(D), weight, 0, 0, 0, 0.0, None, None)


def test_weights_of_entries() -> None:
    """A ledger entry counts with its weight."""
    replayed = Replayed.fresh(POOLED, 1)
    for version, weight in ((1, 4.0), (2, 1.0)):
        replayed = fold_entry(replayed, build_entry(version, weight=weight))
    evidence = replayed.learned.evidence
    assert evidence.A.tolist() == [[5.0] * D] * D
    assert evidence.b.tolist() == [2.5] * D
    assert (evidence.weight, evidence.squares) == (5.0, 1.25)


@pytest.mark.parametrize(("fresh", "weight", "expected"), [(ALONE, 1.0, "no weight"), (POOLED, None, "a weight")])
def test_entry_with_a_wrong_weight(fresh: Evidence, weight: float | None, expected: str) -> None:
    """Entries of a pooled policy have a weight, and others have none."""
    with pytest.raises(ValueError, match=f"expected {expected}"):
        fold_entry(Replayed.fresh(fresh, 1), build_entry(1, weight=weight))


@pytest.mark.parametrize(("fresh", "weight"), [(ALONE, None), (POOLED, 1.0)], ids=["alone", "population"])
def test_entry_of_another_epoch(fresh: Evidence, weight: float | None) -> None:
    """The first entry of an epoch follows the evidence before the first reward, that of the same policy."""
    before = fold_entry(Replayed.fresh(fresh, 1), build_entry(1, weight=weight))
    after = fold_entry(before, build_entry(1, epoch=2, weight=weight))
    assert (after.epoch, after.version, after.learned.reward_count) == (2, 1, 1)
    assert after.learned.evidence.A.tolist() == (fresh.A + 1).tolist()
    assert after.learned.evidence.weight == weight
