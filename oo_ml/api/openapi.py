"""The OpenAPI document: body, answer and errors of each call; the errors come from the error classes.

Schemas come from pydantic directly. FastAPI's own way drops null from examples, and promises a body of errors that is
never sent.
"""

import json
from collections.abc import Sequence
from inspect import getdoc
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from oo_ml.api.access.scopes import needs
from oo_ml.api.error_statuses import DATABASE, RETRY_AFTER_SECONDS, STATUSES, and_subclasses
from oo_ml.api.schemas import EXAMPLE_REQUEST_ID, Answer, Body, Problem
from oo_ml.domain.access import Scope
from oo_ml.errors import (
    ContentTooLargeError,
    CrossSiteError,
    HeadTooLargeError,
    HostNotAllowedError,
    InvalidRequestError,
    MalformedRequestError,
    MissingScopeError,
    OoMlError,
    RateLimitedError,
    SlowRequestError,
    TooManyConnectionsError,
    UnauthenticatedError,
    UnexpectedError,
    UnsupportedMediaTypeError,
)

Json = dict[str, Any]
Errors = Sequence[type[OoMlError]]

_SCHEMAS: Final = "#/components/schemas/"
# FastAPI's schemas of a body that no call sends.
_NEVER_SENT: Final = ("HTTPValidationError", "ValidationError")
# Any request can be malformed, slow or too large, and any code can have a bug.
OF_EVERY_CALL: Final[Errors] = (
    MalformedRequestError,
    SlowRequestError,
    ContentTooLargeError,
    UnsupportedMediaTypeError,
    HeadTooLargeError,
    UnexpectedError,
    TooManyConnectionsError,
)
# The calls that need a key are read by the guard, which may have to read the keys.
OF_CALLS_WITH_KEY: Final[Errors] = (
    UnauthenticatedError,
    MissingScopeError,
    HostNotAllowedError,
    CrossSiteError,
    RateLimitedError,
    *DATABASE,
)
_KEY: Final = "apiKey"
_SECURITY_SCHEME: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, `ooml_` and 64 hexadecimal digits. The call names the scope that the key needs.",
}
_SECONDS: Final = "Seconds to wait before the next try"
_RETRY_AFTER: Final[dict[int, Json]] = {
    429: {"description": _SECONDS, "required": True, "schema": {"type": "integer", "minimum": 1}},
    502: {
        "description": f"{_SECONDS}, if the gateway sent them",
        "required": False,
        "schema": {"type": "integer", "minimum": 1},
    },
    503: {"description": _SECONDS, "required": True, "schema": {"type": "integer", "const": RETRY_AFTER_SECONDS}},
}
_WRONG_FIELD: Final = {"loc": ["body", "user_id"], "msg": "Field required", "type": "missing"}


def documented(  # noqa: PLR0913 - what there is to say of a call
    name: str,
    scope: Scope | None,
    *,
    gives: type[Answer] | Json,
    takes: type[Body] | None = None,
    raises: Errors = (),
    refuses: Errors = (),
    status: int = 200,
) -> Json:
    """Return the arguments with which a route demands its scope, and describes its body, answer and errors.

    Args:
        name: the operationId, after which generated clients name their function.
        scope: the scope that a key needs for the call; None: the call needs no key.
        gives: the body of the answer, or the whole response if its body is not JSON.
        takes: the body of the request.
        raises: the errors that a call can be answered with, besides those of every call.
        refuses: the errors that an item of a batch can be refused with.
        status: the status of the answer.
    """
    response = gives if isinstance(gives, dict) else {"description": getdoc(gives) or "", **_content(gives)}
    if refuses:
        reasons = [f"- {STATUSES[error]} `{code}`: {_sentence(error)}" for code, error in _by_code(refuses).items()]
        response["description"] = "\n".join([response["description"], "", "An item can be refused with:", "", *reasons])
    guarded = OF_CALLS_WITH_KEY if scope else ()
    extra: Json = {"security": [{_KEY: [scope]}] if scope else []}
    if takes is not None:
        extra["requestBody"] = {"required": True, **_content(takes)}
    return {
        "operation_id": name,
        "dependencies": [needs(scope)] if scope else [],
        "response_model": None,
        "status_code": status,
        "responses": {status: response} | _problems([*raises, *guarded, *OF_EVERY_CALL]),
        "openapi_extra": extra,
    }


def install(app: FastAPI) -> None:
    """Complete the document of an application."""
    build = app.openapi

    def openapi() -> Json:
        if app.openapi_schema is None:
            _complete(build())
        return build()

    app.openapi = openapi  # type: ignore[method-assign]


def _content(model: type[BaseModel]) -> Json:
    return {"content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}{model.__name__}"}}}}


def _problems(errors: Errors) -> dict[int, Json]:
    """Return a response for each status, with the codes that tell its errors apart."""
    by_status: dict[int, list[type[OoMlError]]] = {}
    for error in errors:
        by_status.setdefault(STATUSES[error], []).append(error)
    return {status: _problem(status, _by_code(by_status[status])) for status in sorted(by_status)}


def _problem(status: int, by_code: dict[str, type[OoMlError]]) -> Json:
    response = _content(Problem)
    response["content"]["application/json"]["examples"] = {
        code: {
            "value": {
                "detail": [_WRONG_FIELD] if error is InvalidRequestError else _sentence(error),
                "code": code,
                "request_id": EXAMPLE_REQUEST_ID,
            }
        }
        for code, error in by_code.items()
    }
    response["description"] = "\n".join(f"- `{code}`: {_sentence(error)}" for code, error in by_code.items())
    if status in _RETRY_AFTER:
        response["headers"] = {"Retry-After": _RETRY_AFTER[status]}
    return response


def _by_code(errors: Errors) -> dict[str, type[OoMlError]]:
    """Return the errors by their codes; of several with one code, the first."""
    by_code: dict[str, type[OoMlError]] = {}
    for error in errors:
        by_code.setdefault(error.code, error)
    return by_code


def _sentence(error: type[OoMlError]) -> str:
    return error().message


def _complete(document: Json) -> None:
    """Add the schemas that the calls refer to, and remove the 422 of FastAPI, which no call sends."""
    calls = [call for methods in document["paths"].values() for call in methods.values()]
    for call in calls:
        if any(name in json.dumps(call["responses"].get("422")) for name in _NEVER_SENT):
            del call["responses"]["422"]
    # FastAPI makes schemas for the parameters that have one of their own; there need not be any.
    components = document.setdefault("components", {})
    schemas = components.get("schemas", {})
    for name in _NEVER_SENT:
        schemas.pop(name, None)
    schemas.update(_schemas(json.dumps(calls)))
    components |= {"securitySchemes": {_KEY: _SECURITY_SCHEME}, "schemas": dict(sorted(schemas.items()))}


def _schemas(calls: str) -> Json:
    """Return the schemas of the bodies and answers that `calls` refers to."""
    sides: tuple[tuple[type[BaseModel], JsonSchemaMode], ...] = ((Body, "validation"), (Answer, "serialization"))
    models = [
        (model, mode)
        for base, mode in sides
        for model in and_subclasses(base)
        if f'"{_SCHEMAS}{model.__name__}"' in calls
    ]
    _, definitions = models_json_schema(models, ref_template=_SCHEMAS + "{model}")
    schemas: Json = definitions["$defs"]
    for schema in schemas.values():
        _describe_defaults(schema)
    return schemas


def _describe_defaults(schema: Json) -> None:
    """Move defaults into descriptions, because some generators take a field with a default for a required one."""
    for name, field in schema.get("properties", {}).items():
        default = field.pop("default", None)
        if name not in schema.get("required", ()) and isinstance(default, bool | int | float | str):
            described = [field["description"]] if "description" in field else []
            field["description"] = ". ".join([*described, f"Default: {json.dumps(default)}"])
        # A definition stands in its body, not in a schema of its own.
        _describe_defaults(field)
