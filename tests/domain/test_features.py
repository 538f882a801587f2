"""Features of policies against plain loops over inputs and terms, and those of the contract against its formula."""

import math
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.domain.encodings import Boolean, Category, Cyclic, Hashed, Number
from oo_ml.domain.features import BadField, Features, Input, Term
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests.policies import builtin

HOUR: Final = Input("hour", "context", "hour_of_day", Cyclic(24), missing=12)
SEASON: Final = Input("season", "context", "season", Category(("summer", "winter")))
AGE: Final = Input("age", "candidate", "age_days", Number(0, 30, 0.25), missing=3)
IS_NEW: Final = Input("is_new", "candidate", "is_new", Boolean(0.5))
TOPIC: Final = Input("topic", "candidate", "topic", Category(("news", "sport", "art")), missing="art")
TAGS: Final = Input("tags", "candidate", "tags", Hashed(2), missing=[])
INPUTS: Final = (HOUR, SEASON, AGE, IS_NEW, TOPIC, TAGS)
TERMS: Final = st.lists(
    st.builds(
        Term,
        st.lists(st.sampled_from([one.name for one in INPUTS]), max_size=2).map(tuple),
        st.sampled_from([1.0, 0.5, 3.0, 0.1]),
    ),
    min_size=1,
    max_size=5,
)
CONTEXTS: Final = st.fixed_dictionaries(
    {"season": st.sampled_from(["summer", "winter", "monsoon"])},
    optional={"hour_of_day": st.floats(0, 23) | st.none(), "unread": st.integers()},
)
CANDIDATES: Final = st.fixed_dictionaries(
    {"is_new": st.booleans()},
    optional={
        "age_days": st.floats(-10, 50) | st.none(),
        "topic": st.sampled_from(["news", "sport", "art", "war"]) | st.none(),
        "tags": st.none() | st.lists(st.sampled_from(["a", "b", "c"])) | st.sampled_from("abc"),
        "unread": st.text(),
    },
)
DECISIONS: Final = st.lists(st.tuples(CONTEXTS, st.lists(CANDIDATES, min_size=1, max_size=4)), min_size=1, max_size=4)


def encode_plainly(one: Input, context: dict[str, Any], candidate: dict[str, Any]) -> list[float]:
    """Return the columns of an input for a candidate."""
    value = (context if one.of == "context" else candidate).get(one.field)
    columns: list[float] = one.encoding.encode([one.missing if value is None else value])[0].tolist()
    return columns


def compute_x(terms: list[Term], context: dict[str, Any], candidate: dict[str, Any]) -> list[float]:
    """Return x of a candidate by the definition of terms."""
    columns = {one.name: encode_plainly(one, context, candidate) for one in INPUTS}
    x = []
    for term in terms:
        product = [1.0]
        for name in term.inputs:
            product = [left * right for left in product for right in columns[name]]
        x += [value * term.times for value in product]
    return x


@given(TERMS, DECISIONS)
def test_terms(terms: list[Term], decisions: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
    """Each term has its columns, in order: the constant, an input, or each column of one input times each of another.

    A field that is absent or null has the value of `missing`; a field that no input reads changes nothing.
    """
    features = Features(INPUTS, terms)
    found = features.encode(
        [context for context, _ in decisions],
        [candidate for _, candidates in decisions for candidate in candidates],
        [len(candidates) for _, candidates in decisions],
    )
    expected = [compute_x(terms, context, candidate) for context, candidates in decisions for candidate in candidates]
    assert found.X.tolist() == expected
    assert features.dimension == len(features.labels) == found.X.shape[1]
    assert not (np.signbit(found.X) & (found.X == 0)).any()


@given(TERMS, DECISIONS)
def test_decisions_together_and_alone(
    terms: list[Term], decisions: list[tuple[dict[str, Any], list[dict[str, Any]]]]
) -> None:
    """The features of several decisions at once equal those of each alone, bit for bit."""
    features = Features(INPUTS, terms)
    together = features.encode(
        [context for context, _ in decisions],
        [candidate for _, candidates in decisions for candidate in candidates],
        [len(candidates) for _, candidates in decisions],
    )
    alone = [features.encode([context], candidates, [len(candidates)]) for context, candidates in decisions]
    assert together.X.tobytes() == np.concatenate([one.X for one in alone]).tobytes()
    for name, count in together.unknown.items():
        assert count == sum(one.unknown[name] for one in alone)


def test_unknown_values() -> None:
    """Values that a category does not list are counted, by input and row; other encodings know every value."""
    features = Features(INPUTS, [Term((one.name,)) for one in INPUTS])
    candidates = [{"is_new": True, "topic": topic, "tags": "new"} for topic in ("news", "war", "fun", None)]
    assert features.encode([{"season": "monsoon"}], candidates, [4]).unknown == {"season": 4, "topic": 2}


def test_labels() -> None:
    """Labels follow from names: the constant is one, a product has both labels."""
    features = Features(
        INPUTS, [Term(), Term(("age",), 2.0), Term(("age", "hour")), Term(("topic", "is_new")), Term(("tags",))]
    )
    assert features.labels == (
        "one",
        "age",
        "age x hour_sin",
        "age x hour_cos",
        "topic=news x is_new",
        "topic=sport x is_new",
        "topic=art x is_new",
        "tags#0",
        "tags#1",
    )


@pytest.mark.parametrize(
    ("context", "candidates", "expected"),
    [
        ({"season": "winter"}, [{"is_new": True}], None),
        ({}, [{"is_new": True}], BadField(None, "season", None)),
        ({"season": None}, [{"is_new": True}], BadField(None, "season", None)),
        (
            {"season": "winter", "hour_of_day": "9"},
            [{}],
            BadField(None, "hour_of_day", "a number from -2.4e+07 to 2.4e+07"),
        ),
        ({"season": "winter"}, [{"is_new": True}, {}], BadField(1, "is_new", None)),
        ({"season": "winter"}, [{"is_new": 1}], BadField(0, "is_new", "true or false")),
        ({"season": "winter"}, [{"is_new": True, "age_days": math.nan}], BadField(0, "age_days", "a finite number")),
    ],
)
def test_bad_field(context: dict[str, Any], candidates: list[dict[str, Any]], expected: BadField | None) -> None:
    """The first field that is absent without `missing`, or of a wrong type, is named with its candidate."""
    features = Features(INPUTS, [Term((one.name,)) for one in INPUTS])
    assert features.find_bad_field(context, candidates) == expected


def compute_contract(hour: int, day: int, is_overdue: bool, age: float, priority: int) -> list[float]:
    """Return the seven features of the contract by its formula."""
    return [
        math.sin(2 * math.pi * hour / 24),
        math.cos(2 * math.pi * hour / 24),
        float(is_overdue),
        min(max(age, 0.0), 30.0) / 30.0,
        (priority - 1) / 3,
        math.sin(2 * math.pi * day / 7),
        math.cos(2 * math.pi * day / 7),
    ]


@given(
    st.integers(0, 23),
    st.integers(0, 6),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**18), 10**18) | st.floats(0, 30),
    st.integers(1, 4),
)
def test_features_of_the_contract(hour: int, day: int, is_overdue: bool, age: float, priority: int) -> None:
    """The definitions of the contract's policies give the features of its formula, to the last bit."""
    expected = compute_contract(hour, day, is_overdue, age, priority)
    context = {"hour_of_day": hour, "day_of_week": day}
    candidate = {"is_overdue": is_overdue, "task_age_days": age, "priority": priority}
    for policy, dimension in ((LINUCB, 5), (EPSILON_GREEDY, 7)):
        [x] = builtin(policy).features.encode([context], [candidate], [1]).X.tolist()
        assert x == expected[:dimension]


def test_missing_fields_of_the_contract() -> None:
    """The contract's defaults stand for absent fields: noon of day 0, a task that is not due, of priority 1."""
    for policy, dimension in ((LINUCB, 5), (EPSILON_GREEDY, 7)):
        [x] = builtin(policy).features.encode([{}], [{}], [1]).X.tolist()
        assert x == compute_contract(12, 0, False, 0, 1)[:dimension]


def test_labels_of_the_contract() -> None:
    """The labels are those of the contract's stats."""
    labels = ("hour_sin", "hour_cos", "is_overdue", "task_age", "priority", "dow_sin", "dow_cos")
    assert builtin(LINUCB).features.labels == labels[:5]
    assert builtin(EPSILON_GREEDY).features.labels == labels
