"""Parsing of bodies and writing of answers: pydantic reads and writes the bytes directly.

FastAPI parses JSON first and validates afterwards. That costs more, and lets NaN, lone surrogates and deep nesting
through to the models. oo_ml/api/openapi.py documents the calls.
"""

import json
from hashlib import sha256
from itertools import islice
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from oo_ml.api.field_names import MOST_PROBLEMS, is_misspelled, problems_in_body, shorten
from oo_ml.api.schemas import Body, Page
from oo_ml.services.paging import Found

Model = TypeVar("Model", bound=Body)
PageModel = TypeVar("PageModel", bound=Page[Any])


async def parse(request: Request, model: type[Model]) -> Model:
    """Return the body as a `model`.

    Raises:
        RequestValidationError: the body is not a `model`.
    """
    return read(model, await request.body())


def read(model: type[Model], content: bytes | str) -> Model:
    """Return JSON as a `model`.

    Raises:
        RequestValidationError: it is invalid, or has a field that `model` neither knows nor ignores.
    """
    try:
        # Forbidding unknown fields costs almost nothing; only a body that has one, or is invalid, is read again below.
        return model.model_validate_json(content, extra="forbid")
    except ValidationError:
        problems = problems_in_body(model, content)
    try:
        body = model.model_validate_json(content, extra="ignore")
    except ValidationError as error:
        others = islice(error.errors(include_url=False, include_input=False, include_context=False), MOST_PROBLEMS)
        # A missing field may be the misspelled one.
        is_sure = not any(map(is_misspelled, problems))
        problems += [
            {**other, "loc": shorten(other["loc"])} for other in others if is_sure or other["type"] != "missing"
        ]
    if problems:
        raise RequestValidationError([{**problem, "loc": ("body", *problem["loc"])} for problem in problems])
    return body


def digest(body: BaseModel, policy: str) -> bytes:
    """Return the SHA-256 of a request: equal for equal fields, in any order and spacing.

    Fields that are left out do not count, so a release that adds a field still recognizes earlier requests.
    """
    return sha256(f"{policy} {body.model_dump_json(exclude_unset=True)}".encode()).digest()


def sorted_digest(body: BaseModel, policy: str) -> bytes:
    """Return the SHA-256 of a request with raw fields, as `digest` does: they too may come in any order."""
    fields = json.dumps(_with_integers(body.model_dump(mode="json", exclude_unset=True)), sort_keys=True)
    return sha256(f"{policy} {fields}".encode()).digest()


def _with_integers(value: object) -> object:
    """Return JSON in which 9.0 is 9: the type of a raw number says which of the two a client has sent."""
    match value:
        case dict():
            return {name: _with_integers(inner) for name, inner in value.items()}
        case list():
            return [_with_integers(inner) for inner in value]
        case float() if value.is_integer():
            return int(value)
    return value


def page_of(model: type[PageModel], found: Found[Any, Any]) -> PageModel:
    """Return a page of a list as the answer `model`."""
    cursor = None if found.next_cursor is None else str(found.next_cursor)
    return model.model_validate({"items": list(found.rows), "next_cursor": cursor}, from_attributes=True)


def answer(model: BaseModel, status: int = 200) -> Response:
    """Return `model` as the body of a response."""
    return Response(model.model_dump_json(), status_code=status, media_type="application/json")
