"""Reads a definition from a document. Every problem names its place and the way out."""

import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from oo_ml.definitions.compiler import compile_features
from oo_ml.definitions.document import (
    LARGEST_COLUMN,
    MAX_DIMENSION,
    BooleanInput,
    CategoryInput,
    CyclicInput,
    Definition,
    HashedInput,
    Input,
)
from oo_ml.domain.encodings import Hashed
from oo_ml.errors import InvalidDefinitionError

# A place in a document: names of fields and indexes of lists.
Place = tuple[str | int, ...]
Problem = tuple[Place, str]

# A document that is no definition at all can have a problem in each of its parts.
_MAX_PROBLEMS: Final = 20
# Of a name in a place: a document has room for one of two million characters.
_LONGEST_NAME: Final = 100
_ENCODINGS: Final = "number, boolean, cyclic, category or hashed"
# By the types of pydantic's errors: sentences that say what to do.
_SENTENCES: Final = {
    "missing": "is missing: add it",
    "extra_forbidden": "is no part of a definition: leave it out",
    "union_tag_invalid": f"must be one of {_ENCODINGS}",
    "union_tag_not_found": f"is missing: name one of {_ENCODINGS}",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "finite_number": "must be a finite number",
    "list_type": "must be a list",
}
_NAME: Final = "must be of lower-case letters, digits and underscores, a letter first, and at most 50"
_TEXT: Final = "must have no control characters"
_TEXTS: Final = "must be a text of 1 to 50 characters, or a list of at most 20 of them"
_PREFIX: Final = re.compile(r"^(?:Input|List|String) should ")
_SUFFIX: Final = re.compile(r" after validation, not \d+$")


def parse(document: str | bytes | Mapping[str, Any]) -> Definition:
    """Return the definition in a document: JSON, as text or parsed.

    Raises:
        InvalidDefinitionError: the document is no definition; each of its first 20 problems has its place.
    """
    try:
        definition = (
            Definition.model_validate_json(document)
            if isinstance(document, str | bytes)
            else Definition.model_validate(document)
        )
    except ValidationError as error:
        # A value that is neither of two types has an error for each.
        problems = dict.fromkeys(
            map(describe_error, error.errors(include_url=False, include_context=False, include_input=False))
        )
        raise InvalidDefinitionError(list(problems)[:_MAX_PROBLEMS]) from None
    if found := list(_find_problems(definition)) or list(_find_problems_of_columns(definition)):
        raise InvalidDefinitionError(found[:_MAX_PROBLEMS])
    return definition


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of definitions; `parse` checks more than it can say."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Definition.model_json_schema()}


def describe_error(error: ErrorDetails) -> Problem:
    """Return the place and the sentence of an error of pydantic."""
    place = tuple(part[:_LONGEST_NAME] if isinstance(part, str) else part for part in error["loc"])
    kind = error["type"]
    if place[:1] == ("inputs",):
        # Pydantic puts the encoding after an input's index.
        place = place[:2] + place[3:]
        if kind.startswith("union_tag_"):
            place = (*place, "encoding")
        elif place[2:3] == ("missing",) and len(place) > len(("inputs", 0, "missing")):
            return place[:3], _TEXTS
    if kind == "string_pattern_mismatch":
        return place, _NAME if place[-1] == "name" else _TEXT
    if kind == "json_invalid":
        return place, f"is no JSON: {error['msg'].removeprefix('Invalid JSON: ')}"
    return place, _SENTENCES.get(kind) or _SUFFIX.sub("", _PREFIX.sub("must ", error["msg"]))


def _find_problems(definition: Definition) -> Iterator[Problem]:
    """Yield what the parts of a well-formed definition say against each other."""
    by_name = {one.name: one for one in definition.inputs}
    names = [one.name for one in definition.inputs]
    for place in _find_repeated(names):
        yield ("inputs", place, "name"), f"another input has the name {names[place]!r}: choose a name of its own"
    yield from _find_fields_of_two_types(definition.inputs)
    known = ", ".join(by_name) or "none"
    for place, term in enumerate(definition.terms):
        given = [kind for kind in ("one", "input", "product") if getattr(term, kind) is not None]
        if len(given) != 1:
            yield ("terms", place), 'must have one of "one", "input" and "product"'
        for name in term.inputs:
            if name not in by_name:
                yield ("terms", place, given[-1]), f"no input has the name {name!r}; the inputs: {known}"
    yield from _find_problems_of_products(definition)
    used = {name for term in definition.terms for name in term.inputs}
    for place, name in enumerate(names):
        if name not in used:
            yield ("inputs", place), f"no term uses {name!r}: add one, or leave the input out"


def _find_problems_of_products(definition: Definition) -> Iterator[Problem]:
    for place, term in enumerate(definition.terms):
        if len(term.inputs) > len(set(term.inputs)):
            yield ("terms", place, "product"), "multiplies an input by itself: name two inputs"
    for place in _find_repeated([tuple(sorted(term.inputs)) for term in definition.terms]):
        yield ("terms", place), "another term has the same columns: leave one of them out"


def _find_fields_of_two_types(inputs: Sequence[Input]) -> Iterator[Problem]:
    """Yield the inputs that no value of a field suits, because of another input of the same field."""
    types: dict[tuple[str, str], str] = {}
    for place, one in enumerate(inputs):
        field = one.field or one.name
        expected = _name_type(one)
        first = types.setdefault((one.of, field), expected)
        if first != expected:
            problem = f"reads {field!r} as a {expected}, another input as a {first}: give them fields of their own"
            yield ("inputs", place), problem


def _name_type(one: Input) -> str:
    match one:
        case BooleanInput():
            return "boolean"
        case CategoryInput() | HashedInput():
            return "text"
    return "number"


def _count_columns(one: Input) -> int:
    match one:
        case CyclicInput():
            return 2
        case CategoryInput(values=values):
            return len(values)
        case HashedInput(buckets=buckets):
            return buckets
    return 1


def _find_problems_of_columns(definition: Definition) -> Iterator[Problem]:
    """Yield the problems of the columns that the terms make of the inputs."""
    by_name = {one.name: one for one in definition.inputs}
    dimension = sum(math.prod(_count_columns(by_name[name]) for name in term.inputs) for term in definition.terms)
    if dimension > MAX_DIMENSION:
        problem = f"make {dimension} columns, and {MAX_DIMENSION} is the limit: use fewer buckets, values or products"
        yield ("terms",), problem
        return
    features = compile_features(definition)
    for place, one in enumerate(features.inputs):
        if one.missing is not None and (expectation := one.encoding.expectation(one.missing)):
            yield ("inputs", place, "missing"), f"must be {expectation}"
    encodings = {one.name: one.encoding for one in features.inputs}
    for place, term in enumerate(features.terms):
        largest = LARGEST_COLUMN / math.prod(encodings[name].largest for name in term.inputs)
        if term.times > largest:
            problem = f"must be at most {largest:g}: a column of hashed texts reaches {Hashed.largest:g} by itself"
            yield ("terms", place, "times"), problem
    labels = features.labels
    for place in _find_repeated(labels):
        yield ("terms",), f"make two columns with the label {labels[place]!r}: give an input another name"
    used = {name for term in definition.terms for name in term.inputs}
    if definition.rule.exploration < 1 and all(by_name[name].of == "context" for name in used):
        problem = (
            "use no field of the candidates, so all candidates would have the same score: add an input of them, or set"
            " rule.exploration to 1 to choose uniformly"
        )
        yield ("terms",), problem


def _find_repeated(values: Sequence[Hashable]) -> Iterator[int]:
    """Yield the index of each value that stands further in front too."""
    seen = set()
    for place, value in enumerate(values):
        if value in seen:
            yield place
        seen.add(value)
