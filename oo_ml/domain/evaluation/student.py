"""Student's t distribution: the half width of a 95 % interval whose variance is estimated from few users."""

import math
from functools import lru_cache
from typing import Final

# The 97.5th percentile of the normal distribution.
Z95: Final = 1.959963984540054
_OUTSIDE: Final = 0.05
# From here on the expansion is exact to a float's last digits, and shorter than the sum.
_MANY: Final = 300


@lru_cache(maxsize=1024)
def t95(degrees: int) -> float:
    """Return the 97.5th percentile of Student's t: 12.71 for one degree of freedom, Z95 in the limit of many.

    A 95 % interval reaches so many standard errors to either side. Abramowitz and Stegun (1964), "Handbook of
    Mathematical Functions", 26.7.5 for many degrees of freedom.

    Raises:
        ValueError: `degrees` is below 1.
    """
    if degrees < 1:
        raise ValueError("Student's t needs at least one degree of freedom")
    z = Z95
    expanded = (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * degrees**4)
    )
    return expanded if degrees >= _MANY else _bisect(degrees)


def two_sided_p(t: float, degrees: int) -> float:
    """Return the probability that a number with Student's distribution is at least as far from zero as t.

    Abramowitz and Stegun (1964), 26.7.3 and 26.7.4: a sum of about degrees / 2 terms, all of one sign.
    """
    angle = math.atan(t / math.sqrt(degrees))
    square = math.cos(angle) ** 2
    is_odd = degrees % 2
    # Odd: cos, 2/3 cos^3, (2 4)/(3 5) cos^5, ... Even: 1, 1/2 cos^2, (1 3)/(2 4) cos^4, ...
    term = math.cos(angle) if is_odd else 1.0
    terms = []
    for place in range(1, degrees // 2 + 1):
        terms.append(term)
        term *= square * (2 * place / (2 * place + 1) if is_odd else (2 * place - 1) / (2 * place))
    within = math.sin(angle) * math.fsum(terms)
    return 1 - (2 / math.pi * (angle + within) if is_odd else within)


def _bisect(degrees: int) -> float:
    # The percentile of one degree of freedom, the largest, is below 13.
    low, high = 1.0, 13.0
    while (middle := (low + high) / 2) not in {low, high}:
        low, high = (middle, high) if two_sided_p(middle, degrees) > _OUTSIDE else (low, middle)
    return middle
