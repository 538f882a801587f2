"""Encodings against plain loops over their formulas."""

import math
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.encodings import MAX_TEXTS, Boolean, Category, Cyclic, Encoding, Hashed, Number

NUMBERS = st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
BOUNDS = st.floats(-1e12, 1e12)
SHARES = st.floats(0, 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50)
# Of each encoding, and values that it accepts.
ENCODINGS: st.SearchStrategy[tuple[Encoding, list[Any]]] = st.one_of(
    st.tuples(st.builds(Number, st.floats(-1e12, 0), st.floats(1, 1e12), SHARES), st.lists(NUMBERS, max_size=9)),
    st.tuples(st.builds(Boolean, SHARES), st.lists(st.booleans(), max_size=9)),
    st.tuples(st.builds(Cyclic, st.floats(1, 1e6)), st.lists(st.floats(-1e6, 1e6), max_size=9)),
    st.tuples(
        st.builds(Category, st.lists(TEXTS, min_size=1, max_size=9, unique=True).map(tuple)),
        st.lists(TEXTS, max_size=9),
    ),
    st.tuples(
        st.builds(Hashed, st.integers(1, 64)), st.lists(TEXTS | st.lists(TEXTS, max_size=MAX_TEXTS // 5), max_size=9)
    ),
)


def encode_one(encoding: Encoding, value: Any) -> list[float]:  # noqa: ANN401 - JSON
    """Encode a value alone."""
    row: list[float] = encoding.encode([value])[0].tolist()
    return row


@given(BOUNDS, BOUNDS, SHARES, st.lists(NUMBERS, min_size=1, max_size=9))
def test_number(one: float, other: float, minus: float, values: list[float]) -> None:
    """A number is clipped to low..high and scaled to 0..1, then `minus` is subtracted."""
    low, high = sorted((one, other))
    if low == high:
        high = low + 1
    expected = [(min(max(value, low), high) - low) / (high - low) - minus for value in values]
    assert Number(low, high, minus).encode(values).tolist() == [[value] for value in expected]


@pytest.mark.parametrize(
    ("value", "feature"), [(-1e300, 0), (-3, 0), (0, 0), (15, 0.5), (30, 1), (31.0, 1), (10**30, 1)]
)
def test_number_at_its_bounds(value: float, feature: float) -> None:
    """Beyond a bound a number is the bound."""
    assert encode_one(Number(0, 30), value) == [feature]


@given(SHARES, st.lists(st.booleans(), min_size=1))
def test_boolean(minus: float, values: list[bool]) -> None:
    """True is 1 and false 0, less `minus`."""
    expected = [[1.0 - minus] if value else [0.0 - minus] for value in values]
    assert Boolean(minus).encode(values).tolist() == expected


@given(st.floats(1e-6, 1e12), st.lists(st.floats(-1, 1), min_size=1))
def test_cyclic(period: float, shares: list[float]) -> None:
    """A number on a circle is its sine and its cosine."""
    values = [share * period for share in shares]
    expected = [[f(2 * math.pi * value / period) for f in (math.sin, math.cos)] for value in values]
    assert Cyclic(period).encode(values).tolist() == expected


@given(st.sampled_from([7, 12, 24, 365.25]), st.integers(-5, 5), st.floats(0, 1))
def test_cyclic_is_periodic(period: float, turns: int, share: float) -> None:
    """After a whole number of periods the columns are the same, but for rounding."""
    encoding = Cyclic(period)
    value = share * period
    assert encode_one(encoding, value + turns * period) == pytest.approx(encode_one(encoding, value), abs=1e-13)


@given(st.lists(TEXTS, min_size=1, max_size=9, unique=True), st.lists(TEXTS, min_size=1), st.data())
def test_category(listed: list[str], others: list[str], data: st.DataObject) -> None:
    """A listed value is 1 in its column and 0 in the others; another value is 0 in all."""
    values = [*others, *data.draw(st.lists(st.sampled_from(listed)))]
    expected = [[float(value == one) for one in listed] for value in values]
    assert Category(tuple(listed)).encode(values).tolist() == expected


@given(st.integers(1, 64), st.lists(TEXTS | st.lists(TEXTS, max_size=9), min_size=1, max_size=9))
def test_hashed(buckets: int, values: list[str | list[str]]) -> None:
    """A text adds its sign to its bucket, both from its BLAKE2b; equal texts of a list count once."""
    expected = []
    for value in values:
        row = [0.0] * buckets
        for text in {value} if isinstance(value, str) else set(value):
            number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
            row[(number // 2) % buckets] += 1.0 if number % 2 else -1.0
        expected.append([min(max(column, -10.0), 10.0) for column in row])
    assert Hashed(buckets).encode(values).tolist() == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_texts_of_one_bucket(sign: int) -> None:
    """The sum of the texts of one sign in a bucket ends at 10, whatever their number."""
    texts = [text for text in map(str, range(1000)) if Hashed(1).encode([text])[0, 0] == sign][:MAX_TEXTS]
    assert Hashed(1).encode([texts[:9], texts[:10], texts[:11], texts]).tolist() == [[9 * sign], *[[10 * sign]] * 3]


def test_stability_of_hashes() -> None:
    """A text has the same bucket and sign in every release and on every machine: stored features depend on it."""
    columns = Hashed(8).encode(["news", "sport", "Straße", ["news", "sport", "news"], []])
    assert columns.tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, -1, 0, 0],
        [0, -1, 0, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, -1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_spread_of_hashes() -> None:
    """Buckets and signs are spread evenly: chi-square of 6,400 texts, 127 degrees of freedom."""
    columns = Hashed(64).encode([f"text {place}" for place in range(6400)])
    counts = np.concatenate([(columns > 0).sum(axis=0), (columns < 0).sum(axis=0)])
    assert ((counts - 50) ** 2 / 50).sum() < 181.99  # the 99.9th percentile


@given(ENCODINGS)
def test_values_together_and_alone(case: tuple[Encoding, list[Any]]) -> None:
    """Values encoded at once equal each encoded alone, bit for bit; there is a label for each column."""
    encoding, values = case
    together = encoding.encode(values)
    labels = encoding.labels("it")
    assert together.shape == (len(values), len(labels))
    assert len(set(labels)) == len(labels)
    assert all(label == "it" or label.startswith(("it_", "it=", "it#")) for label in labels)
    assert np.abs(together).max(initial=0) <= encoding.largest
    for row, value in zip(together, values, strict=True):
        assert encoding.expectation(value) is None
        assert row.tobytes() == encoding.encode([value])[0].tobytes()


@pytest.mark.parametrize(
    ("encoding", "labels"),
    [
        (Number(0, 1), ("it",)),
        (Boolean(), ("it",)),
        (Cyclic(24), ("it_sin", "it_cos")),
        (Category(("a", "b c")), ("it=a", "it=b c")),
        (Hashed(3), ("it#0", "it#1", "it#2")),
    ],
)
def test_labels(encoding: Encoding, labels: tuple[str, ...]) -> None:
    """Labels follow from the name of the input."""
    assert encoding.labels("it") == labels


NOT_NUMBERS: list[object] = [True, None, "1", [1], {}, math.nan, math.inf, -math.inf, 10**400]
NOT_TEXTS: list[object] = [True, None, 1, {}, "", "x" * 201, "é" * 101, "\0", "\ud800"]


@pytest.mark.parametrize(
    ("encoding", "values", "expectation"),
    [
        (Number(0, 1), NOT_NUMBERS, "a finite number"),
        (Boolean(), [0, 1, "true", None, [], {}], "true or false"),
        (Cyclic(24), [*NOT_NUMBERS, 24_000_001, -1e300], "a number from -2.4e+07 to 2.4e+07"),
        (Category(("a",)), [*NOT_TEXTS, ["a"]], "a text of 1 to 200 bytes"),
        (
            Hashed(4),
            [*NOT_TEXTS, ["a", 1], [["a"]], [""], ["a"] * 101],
            "a text of 1 to 200 bytes, or a list of at most 100 of them",
        ),
    ],
)
def test_invalid_values(encoding: Encoding, values: list[object], expectation: str) -> None:
    """A value of another type or size is refused, with words for what is valid."""
    assert {encoding.expectation(value) for value in values} == {expectation}


@given(ENCODINGS, st.recursive(NUMBERS | st.none() | st.booleans() | st.text(st.characters()), st.lists, max_leaves=5))
def test_accepted_values_are_encoded(case: tuple[Encoding, list[Any]], value: Any) -> None:  # noqa: ANN401
    """Any value that `expectation` accepts is encoded, to finite numbers."""
    encoding, _ = case
    if encoding.expectation(value) is None:
        assert np.isfinite(encoding.encode([value])).all()
