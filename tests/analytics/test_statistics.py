"""Functions for intervals and p-values: against formulas, numpy and published examples."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.evaluation.student import t95
from tests.analytics.intervals import find_group
from tests.analytics.logs import random_log
from tests.sessions import writing

Z95 = 1.959963984540054


def test_two_sided_p(db: Engine) -> None:
    """two_sided_p equals erfc to ten digits, from 1 down to 1e-197."""
    numbers = [place / 100 for place in range(3001)]
    expected = [math.erfc(z / math.sqrt(2)) for z in numbers]
    assert call_each(db, "analytics.two_sided_p(z)", numbers) == pytest.approx(expected, rel=1e-10, abs=0)
    assert call_each(db, "analytics.two_sided_p(-z)", numbers) == call_each(db, "analytics.two_sided_p(z)", numbers)


def test_two_sided_p_at_the_ends(db: Engine) -> None:
    """For very large z, p is 0; NaN gives NaN and null gives null."""
    zero, far, infinite, nan, null = call_each(db, "analytics.two_sided_p(z)", [0.0, 40.0, -math.inf, math.nan, None])
    assert (zero, far, infinite, null) == (1, 0, 0, None)
    assert math.isnan(nan)


@pytest.mark.parametrize(
    ("seen", "n", "low", "high"),
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_published_examples(db: Engine, seen: int, n: int, low: float, high: float) -> None:
    """Four published examples of Wilson's interval are reproduced."""
    assert compute_wilson(db, seen / n, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_formula(db: Engine) -> None:
    """Wilson's interval solves (p - p0)^2 = z^2 p0 (1 - p0) / n, also for fractional n."""
    rng = np.random.default_rng(1)
    for rate, n in [*zip(rng.random(50), rng.lognormal(3, 3, 50), strict=True), (0.0, 7.0), (1.0, 7.0)]:
        ends = compute_wilson(db, float(rate), float(n))
        b, c = 2 * rate + Z95**2 / n, rate**2
        roots = np.sort(np.roots([1 + Z95**2 / n, -b, c]).real)
        assert ends == pytest.approx(tuple(np.clip(roots, 0, 1)), rel=1e-9, abs=1e-9)
        assert 0 <= ends[0] <= rate + 1e-12
        assert rate - 1e-12 <= ends[1] <= 1
    assert compute_wilson(db, 0.5, 0) == (None, None)


def test_wilson_with_reach(db: Engine) -> None:
    """With a reach of t standard errors the interval solves the equation with t, and is wider."""
    low, high = (call(db, f"analytics.wilson_{end}(0.3, 20, 3)") for end in ("low", "high"))
    assert (low, high) == pytest.approx(tuple(np.sort(np.roots([1 + 9 / 20, -0.6 - 9 / 20, 0.09]).real)))


def test_t95(db: Engine) -> None:
    """The percentile equals domain/evaluation/student.py to eight digits; it is null below one degree of freedom."""
    numbers = [*range(1, 200), 500, 10_000, 10**9]
    expected = [t95(number) for number in numbers]
    assert call_each(db, "analytics.t95(z)", [float(number) for number in numbers]) == pytest.approx(expected, rel=1e-8)
    assert call_each(db, "analytics.t95(z)", [0.0, -1.0, None]) == [None, None, None]


def test_user_group(db: Engine) -> None:
    """A user's group is the first byte of the digest of the id, modulo 16, for any characters."""
    users = [*(f"user {number}" for number in range(200)), "zoë", "\\x00", "a\\b'", "\U0001f600"]
    statement = text("SELECT analytics.user_group(u) FROM unnest(CAST(:users AS text[])) WITH ORDINALITY AS u (u, o)")
    with writing(db) as connection:
        groups = list(connection.scalars(statement, {"users": users}))
    assert groups == [find_group(user) for user in users]
    assert set(groups) == set(range(16))


def test_mean_margin(db: Engine) -> None:
    """The margin is t s / sqrt(n) with n - 1 degrees of freedom, and null below two numbers."""
    for seed in range(20):
        r = random_log(seed, 2 + seed * 10).r
        margin = call(db, "analytics.mean_margin(:n, :s, :ss)", n=len(r), s=r.sum(), ss=(r * r).sum())
        assert margin == pytest.approx(t95(len(r) - 1) * math.sqrt(r.var(ddof=1) / len(r)), rel=1e-8)
    assert call(db, "analytics.mean_margin(1, 0.5, 0.25)") is None
    assert call(db, "analytics.mean_margin(0, 0, 0)") is None
    # Rounding may make a variance of 0 negative.
    assert call(db, "analytics.mean_margin(3, 0.3::float8, 3 * 0.1::float8 * 0.1::float8)") == pytest.approx(
        0, abs=1e-7
    )


def test_ratio_margin(db: Engine) -> None:
    """The error of a ratio of totals is that of its linearised parts, and the margin t of it; null for one user."""
    rng = np.random.default_rng(1)
    for n in (2, 3, 30, 500):
        x, y = rng.integers(1, 50, n), rng.normal(1, 1, n)
        off = (y - y.sum() / x.sum() * x) / x.sum()
        error = math.sqrt(n / (n - 1) * (off**2).sum())
        sums = {"n": n, "y": y.sum(), "x": x.sum(), "yy": (y * y).sum(), "xy": (x * y).sum(), "xx": (x * x).sum()}
        assert call(db, "analytics.ratio_error(:n, :y, :x, :yy, :xy, :xx)", **sums) == pytest.approx(error, rel=1e-9)
        margin = call(db, "analytics.ratio_margin(:n, :y, :x, :yy, :xy, :xx)", **sums)
        assert margin == pytest.approx(t95(n - 1) * error, rel=1e-8)
    assert call(db, "analytics.ratio_margin(1, 2, 3, 4, 6, 9)") is None
    assert call(db, "analytics.ratio_margin(0, NULL, NULL, NULL, NULL, NULL)") is None
    assert call(db, "analytics.ratio_margin(2, 0, 0, 0, 0, 0)") is None


def test_rate_size(db: Engine) -> None:
    """The number of cases gives the same standard error, and is at most `most`; without an error there is none."""
    n = call(db, "analytics.rate_size(0.3, 0.1, 100)")
    assert math.sqrt(0.3 * 0.7 / n) == pytest.approx(0.1)
    assert call(db, "analytics.rate_size(0.3, 0.001, 100)") == 100
    assert [call(db, f"analytics.rate_size({rate}, 0, 100)") for rate in (0, 0.5, 1)] == [100, 100, 100]
    assert call(db, "analytics.rate_size(0.3, NULL, 100)") is None


def compute_wilson(db: Engine, rate: float, n: float) -> tuple[Any, Any]:
    """Return both ends of the interval."""
    low = call(db, "analytics.wilson_low(:rate, :n)", rate=rate, n=n)
    return low, call(db, "analytics.wilson_high(:rate, :n)", rate=rate, n=n)


def call(db: Engine, expression: str, **parameters: Any) -> Any:  # noqa: ANN401 - what SQL takes and gives
    """Return the value of an expression."""
    with writing(db) as connection:
        return connection.scalar(
            text(f"SELECT {expression}"),
            {name: float(value) for name, value in parameters.items()},
        )


def call_each(db: Engine, expression: str, numbers: Sequence[float | None]) -> list[Any]:
    """Return the values of an expression for each number z."""
    every = "unnest(CAST(:z AS float8[])) WITH ORDINALITY AS n (z, place)"
    statement = f"SELECT {expression} FROM {every} ORDER BY place"  # noqa: S608 - an expression of ours
    with writing(db) as connection:
        return list(connection.scalars(text(statement), {"z": list(numbers)}))
