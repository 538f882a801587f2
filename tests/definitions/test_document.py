"""The document of a definition: every refusal has its place and the way out."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.definitions import compile_policy, parse
from oo_ml.definitions.document import LARGEST_COLUMN, MAX_DIMENSION, Definition
from oo_ml.domain.encodings import Boolean, Category, Cyclic, Hashed, Number
from oo_ml.domain.evidence import Evidence, observe
from oo_ml.domain.features import Input
from oo_ml.domain.policies import Rule
from oo_ml.domain.ridge import Ridge, intervals
from oo_ml.errors import InvalidDefinitionError
from tests.policies import DEFINITIONS

GOOD: Final[dict[str, Any]] = {
    "inputs": [
        {"name": "hour", "of": "context", "field": "hour_of_day", "encoding": "cyclic", "period": 24, "missing": 12},
        {"name": "topic", "of": "candidate", "encoding": "category", "values": ["news", "sport"]},
        {"name": "tags", "of": "candidate", "encoding": "hashed", "buckets": 8, "missing": []},
        {"name": "age", "of": "candidate", "encoding": "number", "min": 0, "max": 30, "minus": 0.07},
        {"name": "is_new", "of": "candidate", "encoding": "boolean", "minus": 0.35, "missing": False},
    ],
    "terms": [
        {"one": True},
        {"input": "tags"},
        {"input": "age"},
        {"input": "is_new"},
        {"product": ["topic", "hour"], "times": 0.5},
    ],
    "rule": {"alpha": 1.0, "sigma": 0.3, "exploration": 0.02},
}
ABSENT: Final = object()


def change(*changes: tuple[str, object]) -> dict[str, Any]:
    """Return GOOD with values replaced, or taken out, at places such as inputs.2.buckets."""
    document = deepcopy(GOOD)
    for place, value in changes:
        *way, last = (int(part) if part.isdecimal() else part for part in place.split("."))
        around: Any = document
        for part in way:
            around = around[part]
        if value is ABSENT:
            del around[last]
        elif isinstance(around, list) and last == len(around):
            around.append(value)
        else:
            around[last] = value
    return document


def find_problems(document: Any) -> list[tuple[tuple[str | int, ...], str]]:  # noqa: ANN401
    """Return the problems for which a document is refused."""
    with pytest.raises(InvalidDefinitionError) as caught:
        parse(document)
    return list(caught.value.problems)


def test_policy_of_a_definition() -> None:
    """The policy has the inputs, terms and rule of its definition, and keeps the definition as it was published."""
    policy = compile_policy("articles-v1", parse(GOOD))
    assert policy.features.inputs == (
        Input("hour", "context", "hour_of_day", Cyclic(24), 12),
        Input("topic", "candidate", "topic", Category(("news", "sport"))),
        Input("tags", "candidate", "tags", Hashed(8), []),
        Input("age", "candidate", "age", Number(0, 30, 0.07)),
        Input("is_new", "candidate", "is_new", Boolean(0.35), missing=False),
    )
    assert policy.features.labels[0] == "one"
    assert policy.features.labels[9:] == (
        "age",
        "is_new",
        "topic=news x hour_sin",
        "topic=news x hour_cos",
        "topic=sport x hour_sin",
        "topic=sport x hour_cos",
    )
    assert policy.rule == Rule(0.02, 1.0, 0.3)
    assert (policy.name, policy.definition) == ("articles-v1", GOOD)


def test_rule_without_numbers() -> None:
    """A rule without a number takes the candidate with the highest theta.x."""
    assert compile_policy("it", parse(change(("rule", {})))).rule == Rule(0.0, None, 0.0)


def test_evidence_of_a_pooled_policy() -> None:
    """A pooled policy has a population since its publication; without evidence a policy has none.

    Before the first fit the prior is version 0, and without a half-life rewards always count the same.
    """
    document = change(("evidence", {"prior": "population", "half_life_days": 75}))
    population = compile_policy("it", parse(document)).population
    assert population is not None
    assert population.half_life == timedelta(days=75)
    assert (population.prior.version, population.prior.dimension) == (0, 15)
    unfading = compile_policy("it", parse(change(("evidence", {"prior": "population"})))).population
    assert unfading is not None
    assert unfading.half_life is None
    assert compile_policy("it", parse(GOOD)).population is None


@pytest.mark.parametrize("path", sorted(DEFINITIONS.glob("*.json")), ids=lambda path: path.stem)
def test_built_in_definitions(path: Path) -> None:
    """Each built-in definition is accepted as text, as bytes and parsed, and survives the compilation unchanged."""
    text = path.read_text("utf-8")
    assert parse(text) == parse(text.encode()) == parse(json.loads(text))
    assert compile_policy("it", parse(text)).definition == json.loads(text)


def test_example_of_the_schema() -> None:
    """The example in the JSON Schema is a definition."""
    for example in Definition.model_json_schema()["examples"]:
        parse(example)


@pytest.mark.parametrize(
    ("changes", "place", "problem"),
    [
        # The form of an input.
        ([("inputs.1", 5)], ("inputs", 1), "must be an object"),
        (
            [("inputs.1.encoding", ABSENT)],
            ("inputs", 1, "encoding"),
            "is missing: name one of number, boolean, cyclic, ",
        ),
        ([("inputs.1.encoding", "onehot")], ("inputs", 1, "encoding"), "must be one of number, boolean, cyclic, "),
        ([("inputs.1.name", ABSENT)], ("inputs", 1, "name"), "is missing: add it"),
        ([("inputs.1.name", "Topic")], ("inputs", 1, "name"), "must be of lower-case letters, digits and underscores"),
        ([("inputs.1.of", "user")], ("inputs", 1, "of"), "must be 'context' or 'candidate'"),
        ([("inputs.1.field", "a\nb")], ("inputs", 1, "field"), "must have no control characters"),
        ([("inputs.1.field", "")], ("inputs", 1, "field"), "must have at least 1 character"),
        ([("inputs.1.field", "x" * 101)], ("inputs", 1, "field"), "must have at most 100 characters"),
        ([("inputs.1.period", 24)], ("inputs", 1, "period"), "is no part of a definition: leave it out"),
        # Encodings.
        ([("inputs.3.max", 0)], ("inputs", 3, "max"), "must be above min"),
        ([("inputs.3.max", "30")], ("inputs", 3, "max"), "must be a valid number"),
        ([("inputs.3.max", True)], ("inputs", 3, "max"), "must be a valid number"),
        ([("inputs.3.max", float("nan"))], ("inputs", 3, "max"), "must be a finite number"),
        ([("inputs.3.max", float("inf"))], ("inputs", 3, "max"), "must be a finite number"),
        ([("inputs.3.min", -1e13)], ("inputs", 3, "min"), "must be greater than or equal to -1000000000000"),
        ([("inputs.3.minus", 30)], ("inputs", 3, "minus"), "must be less than or equal to 1"),
        ([("inputs.4.minus", -1)], ("inputs", 4, "minus"), "must be greater than or equal to 0"),
        ([("inputs.4.missing", 0)], ("inputs", 4, "missing"), "must be a valid boolean"),
        ([("inputs.0.period", 0)], ("inputs", 0, "period"), "must be greater than or equal to 0.000001"),
        ([("inputs.1.values", [])], ("inputs", 1, "values"), "must have at least 1 item"),
        ([("inputs.1.values", ["a", "b", "a"])], ("inputs", 1, "values"), "lists 'a' twice"),
        ([("inputs.1.values.1", "x" * 51)], ("inputs", 1, "values", 1), "must have at most 50 characters"),
        ([("inputs.1.values", ["a"] * 65)], ("inputs", 1, "values"), "must have at most 64 items"),
        ([("inputs.1.missing", "art")], ("inputs", 1, "missing"), "must be one of values"),
        ([("inputs.2.buckets", 0)], ("inputs", 2, "buckets"), "must be greater than or equal to 1"),
        ([("inputs.2.buckets", 1_000_000)], ("inputs", 2, "buckets"), "must be less than or equal to 64"),
        ([("inputs.2.buckets", 10**400)], ("inputs", 2, "buckets"), "must be less than or equal to 64"),
        ([("inputs.2.missing", 5)], ("inputs", 2, "missing"), "must be a text of 1 to 50 characters, or a list of"),
        ([("inputs.2.missing", [5])], ("inputs", 2, "missing"), "must be a text of 1 to 50 characters, or a list of"),
        # Terms.
        ([("terms", [])], ("terms",), "must have at least 1 item"),
        ([("terms.0", {})], ("terms", 0), 'must have one of "one", "input" and "product"'),
        ([("terms.0.one", False)], ("terms", 0, "one"), "must be True"),
        ([("terms.0.input", "hour")], ("terms", 0), 'must have one of "one", "input" and "product"'),
        ([("terms.4.product", ["topic"])], ("terms", 4, "product"), "must have at least 2 items"),
        ([("terms.4.product", ["topic", "hour", "age"])], ("terms", 4, "product"), "must have at most 2 items"),
        (
            [("terms.5", {"product": ["hour", "days"]})],
            ("terms", 5, "product"),
            "no input has the name 'days'; the inputs",
        ),
        (
            [("terms.5", {"input": "days"})],
            ("terms", 5, "input"),
            "no input has the name 'days'; the inputs: hour, topic",
        ),
        ([("terms.1.times", 0)], ("terms", 1, "times"), "must be greater than 0"),
        ([("terms.1.times", 1e6)], ("terms", 1, "times"), "must be less than or equal to 100"),
        (
            [("terms.1.times", 10.5)],
            ("terms", 1, "times"),
            "must be at most 10: a column of hashed texts reaches 10 by itself",
        ),
        (
            [
                ("inputs.5", GOOD["inputs"][2] | {"name": "words", "buckets": 2}),
                ("terms.5", {"product": ["tags", "words"], "times": 1.5}),
            ],
            ("terms", 5, "times"),
            "must be at most 1: a column of hashed texts reaches 10 by itself",
        ),
        # The rule.
        ([("rule", ABSENT)], ("rule",), "is missing: add it"),
        ([("rule.exploration", 1.5)], ("rule", "exploration"), "must be less than or equal to 1"),
        ([("rule.alpha", -1)], ("rule", "alpha"), "must be greater than or equal to 0"),
        ([("rule.sigma", "1")], ("rule", "sigma"), "must be a valid number"),
        # The evidence.
        ([("evidence", {})], ("evidence", "prior"), "is missing: add it"),
        ([("evidence", {"prior": "x"})], ("evidence", "prior"), "must be 'population'"),
        (
            [("evidence", {"prior": "population", "half_life_days": 1})],
            ("evidence", "half_life_days"),
            "must be greater than or equal to 7",
        ),
        (
            [("evidence", {"prior": "population", "half_life_days": 40_000})],
            ("evidence", "half_life_days"),
            "must be less than or equal to 36500",
        ),
        (
            [("evidence", {"prior": "population", "half_life": 75})],
            ("evidence", "half_life"),
            "is no part of a definition: leave it out",
        ),
        # The parts say different things.
        (
            [("inputs.5", GOOD["inputs"][4])],
            ("inputs", 5, "name"),
            "another input has the name 'is_new': choose a name",
        ),
        (
            [("inputs.3.field", "is_new")],
            ("inputs", 4),
            "reads 'is_new' as a boolean, another input as a number: give them fields of their own",
        ),
        ([("terms.5", {"input": "age"})], ("terms", 5), "another term has the same columns: leave one of them out"),
        (
            [("terms.5", {"product": ["hour", "topic"]})],
            ("terms", 5),
            "another term has the same columns: leave one of them out",
        ),
        ([("terms.2", ABSENT)], ("inputs", 3), "no term uses 'age': add one, or leave the input out"),
        (
            [("inputs.2.buckets", 60), ("terms.5", {"product": ["tags", "topic"]})],
            ("terms",),
            "make 187 columns, and 64 is the limit: use fewer buckets, values or products",
        ),
        (
            [("inputs.3.name", "hour_sin"), ("terms.2", {"input": "hour_sin"}), ("terms.5", {"input": "hour"})],
            ("terms",),
            "make two columns with the label 'hour_sin': give an input another name",
        ),
        (
            [("inputs", GOOD["inputs"][:1]), ("terms", [{"one": True}, {"input": "hour"}])],
            ("terms",),
            "use no field of the candidates, so all candidates would have the same score: add an input of them, or set",
        ),
    ],
)
def test_refusals(changes: list[tuple[str, object]], place: tuple[str | int, ...], problem: str) -> None:
    """A refusal names the place, and says what to do."""
    found = find_problems(change(*changes))
    assert [one for one, _ in found] == [place]
    assert found[0][1].startswith(problem)


def test_many_rewards_for_the_largest_features() -> None:
    """Features as large as a definition may have leave A an inverse: 20,000 rewards are those of a user for decades."""
    rng = np.random.default_rng(1)
    X = rng.choice([-1.0, 1.0], (4, MAX_DIMENSION)) * LARGEST_COLUMN * 0.7
    evidence = Evidence.alone(MAX_DIMENSION)
    for place in range(20_000):
        evidence = observe(evidence, X[place % 4], 1.0)
    assert np.isfinite(intervals(Ridge(evidence.A, evidence.b))).all()


def test_all_problems_at_once() -> None:
    """A refusal has every problem, and its message names each place."""
    document = change(("inputs.0.period", 0), ("inputs.3.max", "x"), ("rule.sigma", -1))
    assert [place for place, _ in find_problems(document)] == [
        ("inputs", 0, "period"),
        ("inputs", 3, "max"),
        ("rule", "sigma"),
    ]
    with pytest.raises(InvalidDefinitionError, match=r"^inputs\[0\]\.period: must .*; inputs\[3\]\.max: must .*; rule"):
        parse(document)


def test_choice_without_the_candidates() -> None:
    """A rule that always draws uniformly needs no field of the candidates."""
    terms = [{"one": True}, {"input": "hour"}]
    parse(change(("inputs", GOOD["inputs"][:1]), ("terms", terms), ("rule", {"exploration": 1})))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no JSON: EOF while parsing a value at line 1 column 0"),
        ('{"inputs": ]', "is no JSON: expected value at line 1 column 12"),
        ("[" * 100_000, "is no JSON: recursion limit exceeded at line 1 column "),
        ('{"inputs":' * 10_000, "is no JSON: recursion limit exceeded at line 1 column "),
        ("[]", "must be an object"),
        ("null", "must be an object"),
        ('"text"', "must be an object"),
    ],
)
def test_texts_that_are_no_definition(text: str, problem: str) -> None:
    """A text that is no JSON object is refused as a whole."""
    [(place, found)] = find_problems(text)
    assert place == ()
    assert found.startswith(problem)


def nest(depth: int) -> Any:  # noqa: ANN401 - JSON
    """Return lists within lists."""
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    "make",
    [
        lambda: {f"key {place}": 1 for place in range(100_000)},
        lambda: change(("inputs", [5] * 100_000)),
        lambda: change(("terms", [{"one": True}] * 100_000)),
        lambda: change(("terms", [{"product": ["tags", "tags"]}] * 64)),
        lambda: change(("inputs.1.values", [str(place) for place in range(1_000_000)])),
        lambda: change(("inputs.1.name", "x" * 10_000_000)),
        lambda: change(("inputs.1.values", [nest(10_000)])),
        lambda: change(("inputs.1.values", ["\ud800"])),
        lambda: change(("inputs.1.values", ["\0"])),
        lambda: change(("terms.0.times", 10**5000)),
    ],
)
def test_hostile_documents(make: Callable[[], Any]) -> None:
    """A document that would cost much to compile is refused with a short list of problems."""
    problems = find_problems(make())
    assert 1 <= len(problems) <= 20
    assert len(str(problems)) < 10_000


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def list_places(value: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:  # noqa: ANN401 - JSON
    """Return the places of all values of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for name, one in inner for found in list_places(one, (*place, name)))]


@given(st.sampled_from(list_places(GOOD)[1:]), JSON)
def test_any_value_at_any_place(place: tuple[str | int, ...], value: Any) -> None:  # noqa: ANN401
    """A document with any JSON value at any place is accepted and compiled, or refused with places and sentences."""
    document = deepcopy(GOOD)
    around: Any = document
    for part in place[:-1]:
        around = around[part]
    around[place[-1]] = value
    problems: Sequence[Any] = ()
    try:
        policy = compile_policy("it", parse(document))
    except InvalidDefinitionError as error:
        problems = error.problems
    else:
        assert 1 <= policy.features.dimension <= 64
        assert len(set(policy.features.labels)) == policy.features.dimension
        return
    assert problems
    assert all(problem for _, problem in problems)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"terms": [{"product": ["n", "n"]}]}, "terms[0].product: multiplies an input by itself: name two inputs"),
        (
            {
                "inputs": [{"name": "n", "of": "candidate", "encoding": "cyclic", "period": 1, "missing": 1e9}],
                "terms": [{"input": "n"}],
            },
            "inputs[0].missing: must be a number from -1e+06 to 1e+06",
        ),
    ],
)
def test_what_no_decision_could_use(parts: dict[str, Any], problem: str) -> None:
    """A product of an input with itself repeats columns, and an invalid value for absence would fail each call."""
    number = {"name": "n", "of": "candidate", "encoding": "number", "min": 0, "max": 1}
    with pytest.raises(InvalidDefinitionError) as refused:
        parse({"inputs": [number], "terms": [{"input": "n"}], "rule": {}} | parts)
    assert problem in refused.value.message
