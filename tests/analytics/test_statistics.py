"""Functions for intervals and p-values: against formulas, numpy and published examples."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

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


def test_mean_margin(db: Engine) -> None:
    """The margin is z95 s / sqrt(n), and null below two rows."""
    for seed in range(20):
        r = random_log(seed, 2 + seed * 10).r
        margin = call(db, "analytics.mean_margin(:n, :s, :ss)", n=len(r), s=r.sum(), ss=(r * r).sum())
        assert margin == pytest.approx(Z95 * math.sqrt(r.var(ddof=1) / len(r)), rel=1e-9)
    assert call(db, "analytics.mean_margin(1, 0.5, 0.25)") is None
    assert call(db, "analytics.mean_margin(0, 0, 0)") is None
    # Rounding may make a variance of 0 negative.
    assert call(db, "analytics.mean_margin(3, 0.3::float8, 3 * 0.1::float8 * 0.1::float8)") == pytest.approx(
        0, abs=1e-8
    )


def test_weighted_margin(db: Engine) -> None:
    """The margin is z95 sqrt(sum(w^2 (r - mean)^2)) / sum(w), and null if only one weight is above 0."""
    for seed in range(20):
        log = random_log(seed, 3 + seed * 10)
        w, r = log.w + 0.01, log.r
        mean = (w * r).sum() / w.sum()
        expected = Z95 * math.sqrt((w**2 * (r - mean) ** 2).sum()) / w.sum()
        assert compute_weighted_margin(db, w.tolist(), r.tolist()) == pytest.approx(expected, rel=1e-9)
    assert compute_weighted_margin(db, [3.0], [0.5]) is None
    assert compute_weighted_margin(db, [3.0, 0.0, 0.0], [0.5, 1.0, -1.0]) is None
    assert compute_weighted_margin(db, [0.0, 0.0], [0.5, 1.0]) is None
    assert compute_weighted_margin(db, [3.0, 5.0], [0.1, 0.1]) == pytest.approx(0, abs=1e-7)


def compute_weighted_margin(db: Engine, weights: list[float], rewards: list[float]) -> Any:  # noqa: ANN401 - float or None
    """Call the function with the sums that it needs."""
    w, r = np.array(weights), np.array(rewards)
    sums = {"w": w.sum(), "ww": (w**2).sum(), "wr": (w * r).sum(), "wwr": (w**2 * r).sum(), "wwrr": (w**2 * r**2).sum()}
    return call(db, "analytics.weighted_margin(:w, :ww, :wr, :wwr, :wwrr)", **sums)


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
