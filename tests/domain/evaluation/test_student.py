"""Student's t: against a table, closed forms, and the integral of its density."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.evaluation.student import Z95, t95, two_sided_p


@pytest.mark.parametrize(
    ("degrees", "percentile"),
    # Abramowitz and Stegun (1964), table 26.10, the column of 0.95.
    [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (6, 2.447),
        (7, 2.365),
        (8, 2.306),
        (9, 2.262),
        (10, 2.228),
        (15, 2.131),
        (20, 2.086),
        (25, 2.060),
        (30, 2.042),
        (40, 2.021),
        (60, 2.000),
        (120, 1.980),
        (10**12, 1.960),
    ],
)
def test_published_table(degrees: int, percentile: float) -> None:
    """A published table is reproduced."""
    assert t95(degrees) == pytest.approx(percentile, abs=5.1e-4)


def test_closed_forms() -> None:
    """One, two and four degrees of freedom, and infinitely many, have closed forms."""
    assert t95(1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-13)
    assert t95(2) == pytest.approx(0.95 * math.sqrt(2 / (4 * 0.975 * 0.025)), rel=1e-13)
    # Shaw (2006), "Sampling Student's T distribution": t = 2 sqrt(cos(acos(sqrt(a)) / 3) / sqrt(a) - 1), a = 4p(1 - p).
    a = 4 * 0.975 * 0.025
    four = 2 * math.sqrt(math.cos(math.acos(math.sqrt(a)) / 3) / math.sqrt(a) - 1)
    assert t95(4) == pytest.approx(four, rel=1e-13)
    assert t95(10**15) == pytest.approx(Z95, rel=1e-14)
    assert math.erf(Z95 / math.sqrt(2)) == pytest.approx(0.95, abs=1e-15)


@given(st.integers(1, 400))
def test_percentile_and_probability(degrees: int) -> None:
    """Five of a hundred numbers are further from zero than the percentile, by the sum and by the expansion."""
    assert two_sided_p(t95(degrees), degrees) == pytest.approx(0.05, rel=1e-11)
    assert t95(degrees) > t95(degrees + 1) > Z95


@given(st.integers(1, 60), st.floats(0.01, 20))
def test_probability_against_the_density(degrees: int, t: float) -> None:
    """The probability is the integral of the density beyond t, to either side."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = t * (nodes + 1) / 2
    density = np.exp(
        math.lgamma((degrees + 1) / 2)
        - math.lgamma(degrees / 2)
        - math.log(degrees * math.pi) / 2
        - (degrees + 1) / 2 * np.log1p(x**2 / degrees)
    )
    assert two_sided_p(t, degrees) == pytest.approx(1 - t * float(weights @ density), abs=1e-12)


def test_no_degrees_of_freedom() -> None:
    """Without a degree of freedom there is no percentile."""
    with pytest.raises(ValueError, match="at least one degree of freedom"):
        t95(0)
