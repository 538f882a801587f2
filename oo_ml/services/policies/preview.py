"""Previews of decisions: what a policy makes of candidates for a user of whom it knows nothing. No database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from oo_ml.domain.features import Fields
from oo_ml.domain.policies import Policy, choose
from oo_ml.domain.ridge import stack

# Differences of features up to it are rounding.
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Preview:
    """A decision among n candidates that was not made.

    Attributes:
        x: features of each candidate, n lists of d numbers.
        propensities: the probability of each candidate to be chosen, n numbers.
        shared: the labels of the columns that are the same for all candidates.
        unknown: the number of candidates with a value that the definition does not list, for each input that is a
            category and has one.
    """

    x: list[list[float]]
    propensities: list[float]
    shared: list[str]
    unknown: Mapping[str, int]


def preview(policy: Policy, context: Fields, candidates: Sequence[Fields]) -> Preview:
    """Return the features and propensities of candidates, at least one, whose fields find_bad_field has accepted."""
    encoded = policy.features.encode([context], candidates, [len(candidates)])
    X = encoded.X
    # The id decides which candidate is drawn, not how probable each is.
    [choice] = choose(policy.rule, stack([policy.stranger]), [0], X, [len(candidates)], [0])
    # A cosine may be 1e-17 in place of 0.
    is_shared = (np.abs(X - X[0]).max(axis=0) < _ROUNDING).tolist()
    return Preview(
        X.tolist(),
        choice.propensities.tolist(),
        [label for label, same in zip(policy.features.labels, is_shared, strict=True) if same],
        {name: count for name, count in encoded.unknown.items() if count},
    )
