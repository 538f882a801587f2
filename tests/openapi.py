"""Checks of every answer against the OpenAPI document: status, code and each field."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import httpx
from jsonschema_rs import Draft202012Validator, ValidationError

from oo_ml.api.app import create_api
from oo_ml.settings import Settings

Json = dict[str, Any]

# The page, the document itself, and reports as CSV stand in no document; their errors have the shape of all errors.
_UNDOCUMENTED: Final = re.compile(r"/(dashboard|docs|openapi\.json|static-offline-docs|favicon)|.*\.csv$")
_JSON: Final = "application/json"
_OF_NO_CALL: Final = {404: "not_found", 405: "method_not_allowed"}


@cache
def document() -> Json:
    """Return the OpenAPI document."""
    return dict(create_api(Settings()).openapi())


@cache
def _validator(name: str) -> Draft202012Validator:
    return validator({"$ref": f"#/components/schemas/{name}"})


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Return a validator for a schema of the document; a field that the schema does not name is an error."""
    schemas = document()["components"]["schemas"]
    closed = {
        name: {"additionalProperties": False, **one} if "properties" in one else one for name, one in schemas.items()
    }
    return Draft202012Validator({**schema, "components": {"schemas": closed}}, validate_formats=True)


@cache
def _templates() -> list[tuple[re.Pattern[str], Json]]:
    """Return the calls of each path; /stats/egreedy/{user_id} is before /stats/{user_id}, which would match it too."""
    paths = sorted(document()["paths"].items(), key=lambda path: -len(re.sub(r"{\w+}", "", path[0])))
    return [(re.compile(re.sub(r"{\w+}", "[^?]*", path) + "$"), calls) for path, calls in paths]


def check(response: httpx.Response) -> None:
    """Assert that the document promises such an answer."""
    path = response.request.url.raw_path.decode("ascii").partition("?")[0]
    if response.is_redirect or (response.is_success and _UNDOCUMENTED.match(path)):
        return
    methods = next((calls for template, calls in _templates() if template.match(path)), {})
    call = methods.get(response.request.method.lower())
    where = f"{response.request.method} {path}: {response.status_code}"
    content = call["responses"].get(str(response.status_code), {}).get("content", {}) if call else {}
    if content and _JSON not in content:
        assert response.headers["Content-Type"] in content, where
        return
    body = _json(response)
    if response.is_error:
        assert body["request_id"] == response.headers["X-Request-ID"], where
    if call is None:
        _validate("Problem", body, where)
        assert _OF_NO_CALL.get(response.status_code, body["code"]) == body["code"], where
        return
    promised = call["responses"].get(str(response.status_code))
    assert promised, f"{where} {body} is not promised"
    described = content[_JSON]
    _validate(described["schema"]["$ref"].rpartition("/")[2], body, where)
    if not response.is_success:
        assert body["code"] in described["examples"], f"{where} {body['code']} is not promised"
        retry_after = promised.get("headers", {}).get("Retry-After")
        assert (retry_after is not None) == (response.status_code in {429, 502, 503}), where
        is_sent = "Retry-After" in response.headers
        assert is_sent if retry_after and retry_after["required"] else retry_after or not is_sent, where
        assert int(response.headers.get("Retry-After", "1")) >= 1, where
    for outcome in body.get("outcomes", []):
        if outcome["kind"] == "refused":
            assert outcome["error"]["request_id"] == response.headers["X-Request-ID"], where
            refusal = f"{outcome['status']} `{outcome['error']['code']}`"
            assert refusal in promised["description"], f"{where} {refusal} is not promised"


def _json(response: httpx.Response) -> Any:  # noqa: ANN401
    assert response.headers["Content-Type"] == _JSON, f"{response.request.url.path}: {response.text}"
    return response.json()


def _validate(name: str, body: object, where: str) -> None:
    try:
        _validator(name).validate(body)
    except ValidationError as error:
        raise AssertionError(f"{where} is no {name}: {error}") from None
