"""Features of a policy: how raw fields of the context and of each candidate become the rows of X.

An input reads one field and has one or more columns. Terms are the columns of x: an input, the product of two inputs,
or the constant 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.encodings import Category, Encoding

# Raw fields by name: JSON values.
Fields = Mapping[str, Any]

ONE: Final = "one"


@dataclass(frozen=True, slots=True)
class Input:
    """A field, and the encoding that turns it into columns.

    Attributes:
        of: where the field is; one of the context is the same for all candidates of a decision.
        missing: the value that stands for an absent field, or null; None: the field is required.
    """

    name: str
    of: Literal["context", "candidate"]
    field: str
    encoding: Encoding
    missing: Any = None


@dataclass(frozen=True, slots=True)
class Term:
    """Columns of x: the product of the inputs named, each column of the first times each of the second.

    Attributes:
        inputs: no name: the constant 1; one name: the input's columns; two names: a product.
        times: a factor of all columns.
    """

    inputs: tuple[str, ...] = ()
    times: float = 1.0


class BadField(NamedTuple):
    """A field that an input can't read.

    Attributes:
        candidate: the index of the candidate; None: the field is of the context.
        expectation: a valid value in words; None: the field is absent.
    """

    candidate: int | None
    field: str
    expectation: str | None


class Encoded(NamedTuple):
    """Features of n candidates.

    Attributes:
        X: shape (n, d).
        unknown: for each input that is a category, the number of rows whose value the definition does not know.
    """

    X: NDArray[np.float64]
    unknown: Mapping[str, int]


class Features:
    """The features of a policy, compiled once.

    Attributes:
        labels: of the d columns of x.
        inputs, terms: in the order of the definition.
    """

    def __init__(self, inputs: Sequence[Input], terms: Sequence[Term]) -> None:
        """Compile `terms`, whose inputs are all among `inputs`; names of inputs are unique."""
        self.inputs = tuple(inputs)
        self.terms = tuple(terms)
        # The columns of all inputs stand side by side in E; its last column is 1.
        names: list[str] = []
        columns: dict[str, range] = {}
        for one in self.inputs:
            labels = one.encoding.labels(one.name)
            columns[one.name] = range(len(names), len(names) + len(labels))
            names += labels
        ones = range(len(names), len(names) + 1)
        # A column of x is the product of two columns of E, times a factor.
        pairs = [
            (left, right, term.times)
            for term in terms
            for left, right in product(*([columns[name] for name in term.inputs] + [ones, ones])[:2])
        ]
        self.labels = tuple(
            " x ".join(names[one] for one in pair[:2] if one in range(len(names))) or ONE for pair in pairs
        )
        self._columns = columns
        self._width = len(names) + 1
        self._left = np.array([left for left, _, _ in pairs], np.intp)
        self._right = np.array([right for _, right, _ in pairs], np.intp)
        self._times = np.array([times for _, _, times in pairs])
        self._is_plain = all(right in ones and times == 1 for _, right, times in pairs)

    @property
    def dimension(self) -> int:
        """The number of features d."""
        return len(self.labels)

    def is_same(self, other: "Features") -> bool:
        """Return whether the features have the same inputs and terms, so that x is always the same."""
        return (self.inputs, self.terms) == (other.inputs, other.terms)

    def find_bad_field(self, context: Fields, candidates: Sequence[Fields]) -> BadField | None:
        """Return the first field of a decision that can't be encoded; None if all can."""
        for one in self.inputs:
            is_shared = one.of == "context"
            for place, row in enumerate((context,) if is_shared else candidates):
                value = row.get(one.field)
                if value is None and one.missing is not None:
                    continue
                # An absent field has no value to describe.
                expectation = None if value is None else one.encoding.expectation(value)
                if value is None or expectation is not None:
                    return BadField(None if is_shared else place, one.field, expectation)
        return None

    def encode(self, contexts: Sequence[Fields], candidates: Sequence[Fields], counts: Sequence[int]) -> Encoded:
        """Return the features of the candidates of m decisions, n candidates in all.

        Args:
            contexts: of each decision, m.
            candidates: of all decisions, those of the first one first, n.
            counts: the number of candidates of each decision, m numbers with the sum n.

        Raises:
            ValueError, TypeError, OverflowError: a field is invalid; find_bad_field tells which.
        """
        E = np.ones((len(candidates), self._width))
        unknown = {}
        for one in self.inputs:
            rows = contexts if one.of == "context" else candidates
            values = [row.get(one.field) for row in rows]
            if None in values:
                values = [one.missing if value is None else value for value in values]
            columns = one.encoding.encode(values)
            if one.of == "context":
                columns = np.repeat(columns, counts, axis=0)
            own = self._columns[one.name]
            E[:, own.start : own.stop] = columns
            if isinstance(one.encoding, Category):
                unknown[one.name] = len(columns) - int(np.count_nonzero(columns))
        X = E.take(self._left, axis=1)
        if not self._is_plain:
            X *= E.take(self._right, axis=1)
            X *= self._times
        # A negative zero becomes 0: JSON does not keep its sign.
        X += 0.0
        return Encoded(X, unknown)
