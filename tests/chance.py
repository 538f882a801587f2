"""Draws until every possible outcome has come, so that no test depends on luck."""

import math
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

# Less likely than a broken machine.
_MISS = 1e-12


def draws(wanted: AbstractSet[str], seen: AbstractSet[str], *, rarest: float, at_least: int = 12) -> Iterator[int]:
    """Number the draws of a loop that adds its outcomes to `seen`, until all of `wanted` are there.

    An outcome with the probability `rarest` is missing at the end once in 1e12 runs. There are `at_least` draws, so
    that an outcome that is not wanted has its chance to come too.
    """
    most = at_least if rarest == 1 else max(at_least, math.ceil(math.log(_MISS) / math.log1p(-rarest)))
    for number in range(most):
        if number >= at_least and wanted <= seen:
            return
        yield number
