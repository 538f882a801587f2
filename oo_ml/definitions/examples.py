"""Examples of a decision, to see what a policy makes of it: checked, or made from the definition itself."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oo_ml.definitions.parsing import Problem, describe_error
from oo_ml.domain.encodings import Boolean, Category, Cyclic, Encoding, Number
from oo_ml.domain.features import Features, Input
from oo_ml.errors import InvalidDefinitionError

_MAX_CANDIDATES: Final = 1000
_Fields = dict[str, Any]


class ExampleCandidate(BaseModel):
    """A candidate: its id, and its raw fields."""

    # Further fields of a candidate, such as its content, have no effect on x.
    model_config = ConfigDict(strict=True, frozen=True)

    id: str
    features: _Fields = {}


class Example(BaseModel):
    """The part of the body of a decision that a policy looks at."""

    model_config = ConfigDict(strict=True, frozen=True)

    context: _Fields = {}
    candidates: Annotated[list[ExampleCandidate], Field(min_length=1, max_length=_MAX_CANDIDATES)]


def parse_example(features: Features, document: object) -> Example:
    """Return the example in a parsed JSON document.

    Raises:
        InvalidDefinitionError: the document is no example, or has a field that an input can't read; each problem has
            its place.
    """
    try:
        example = Example.model_validate(document)
    except ValidationError as error:
        problems = [describe_error(one) for one in error.errors(include_url=False, include_context=False)]
        raise InvalidDefinitionError(problems) from None
    if problem := _find_problem(features, example):
        raise InvalidDefinitionError([problem])
    return example


def make_example(features: Features) -> Example:
    """Return an example with three candidates: low values, high ones, and the fields alone that have to be there."""
    context = _make_fields(features.inputs, "context", 0)
    first, second, third = (_make_fields(features.inputs, "candidate", place) for place in range(3))
    required = {one.field for one in features.inputs if one.missing is None}
    shortest = {field: value for field, value in third.items() if field in required}
    named = zip("abc", (first, second, shortest), strict=True)
    return Example(context=context, candidates=[ExampleCandidate(id=id_, features=fields) for id_, fields in named])


def _find_problem(features: Features, example: Example) -> Problem | None:
    bad = features.find_bad_field(example.context, [candidate.features for candidate in example.candidates])
    if bad is None:
        return None
    place = ("context",) if bad.candidate is None else ("candidates", bad.candidate, "features")
    sentence = "is missing: add it" if bad.expectation is None else f"must be {bad.expectation}"
    return (*place, bad.field), sentence


def _make_fields(inputs: Sequence[Input], of: Literal["context", "candidate"], place: int) -> _Fields:
    """Return the fields of the context or of a candidate, each with a value that suits all inputs that read it."""
    fields: _Fields = {}
    for one in inputs:
        # Several inputs may read a field; a value of a category suits the others too.
        if one.of == of and (one.field not in fields or isinstance(one.encoding, Category)):
            fields[one.field] = _make_value(one.encoding, one.field, place)
    return fields


def _make_value(encoding: Encoding, field: str, place: int) -> Any:  # noqa: ANN401 - a JSON value
    share = (0.25, 0.75, 0.5)[place]
    match encoding:
        case Number(low, high):
            return _shorten(low + share * (high - low))
        case Cyclic(period):
            return _shorten(share * period)
        case Boolean():
            return place == 1
        case Category(values):
            return values[place % len(values)]
    return f"{field} {place + 1}"


def _shorten(number: float) -> float:
    return int(number) if number.is_integer() else number
