"""Traffic: the policy of each user by a stable hash."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.traffic import Traffic, is_whole

USERS = [f"user {number}" for number in range(20_000)]


def test_shares() -> None:
    """Of 20,000 users each policy gets its share: chi-square, two degrees of freedom."""
    shares = {"linucb-v1": 0.7, "egreedy-v1": 0.25, "uniform-v1": 0.05}
    counts = Counter(Traffic("salt", shares).pick(user) for user in USERS)
    chi_square = sum((counts[name] - len(USERS) * share) ** 2 / (len(USERS) * share) for name, share in shares.items())
    assert chi_square < 13.8  # the 99.9th percentile


def test_change_of_shares() -> None:
    """With two policies a change moves as few users as possible: the policy that gained has all users that it had."""
    before = Traffic("salt", {"a": 0.5, "b": 0.5})
    after = Traffic("salt", {"b": 0.4, "a": 0.6})
    moved = [user for user in USERS if before.pick(user) != after.pick(user)]
    assert {before.pick(user) for user in moved} == {"b"}
    assert len(moved) / len(USERS) == pytest.approx(0.1, abs=0.01)


def test_salt() -> None:
    """Another salt gives other users; the same salt the same ones, on every machine."""
    shares = {"a": 0.5, "b": 0.5}
    one, other = Traffic("one", shares), Traffic("other", shares)
    assert sum(one.pick(user) == other.pick(user) for user in USERS) / len(USERS) == pytest.approx(0.5, abs=0.02)
    assert [Traffic("salt", shares).pick(user) for user in ("ada", "ben", "zoë", "")] == ["a", "b", "b", "a"]


@given(st.text(st.characters(codec="utf-8")), st.lists(st.floats(0.01, 1), min_size=1, max_size=8))
def test_any_shares(user_id: str, weights: list[float]) -> None:
    """Every user has one of the policies, whatever the sum of the shares rounds to."""
    shares = {f"p{place}": weight / sum(weights) for place, weight in enumerate(weights)}
    assert is_whole(shares)
    assert Traffic("salt", shares).pick(user_id) in shares


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.0, "b": 0.0}, {"a": 1.2, "b": -0.2}, {"a": float("nan")}])
def test_invalid_shares(shares: dict[str, float]) -> None:
    """Shares that are not above 0, or whose sum is not 1, are not of all users."""
    assert not is_whole(shares)
