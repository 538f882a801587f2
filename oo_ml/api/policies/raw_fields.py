"""Raw fields in bodies: what a client says about a decision or a candidate, for the policy to read what it needs.

Fields that the policy's definition does not name are kept with the decision and change nothing: a later policy may be
evaluated on them.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi.exceptions import RequestValidationError
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypeAliasType

from oo_ml.domain.encodings import MAX_TEXTS
from oo_ml.domain.features import Fields
from oo_ml.domain.identifiers import is_storable
from oo_ml.domain.policies import Policy

MAX_FIELDS: Final = 100
MAX_TEXT_BYTES: Final = 200
_MAX_NAME: Final = 100

_EXPECTED: Final = (
    f"must be true or false, a finite number, a text of at most {MAX_TEXT_BYTES} bytes without NUL, a list of at most"
    f" {MAX_TEXTS} such texts, or null"
)


def _fitting(text: str) -> str:
    if len(text.encode(errors="replace")) > MAX_TEXT_BYTES or not is_storable(text):
        raise ValueError
    return text


class _Value:
    """Metadata of a raw field's value. Almost every value is checked without calling Python."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - a type
        ascii_text = core_schema.str_schema(max_length=MAX_TEXT_BYTES, pattern=r"^[\x01-\x7f]*$", strict=True)
        other_text = core_schema.str_schema(max_length=MAX_TEXT_BYTES, strict=True)
        text = core_schema.union_schema(
            [ascii_text, core_schema.no_info_after_validator_function(_fitting, other_text)], mode="left_to_right"
        )
        value = core_schema.union_schema(
            [
                core_schema.bool_schema(strict=True),
                text,
                # An integer stays one, as the client wrote it; a larger one is a float.
                core_schema.int_schema(strict=True, ge=-(2**63), le=2**63 - 1),
                core_schema.float_schema(strict=True, allow_inf_nan=False),
                core_schema.list_schema(text, max_length=MAX_TEXTS, strict=True),
            ],
            mode="left_to_right",
            custom_error_type="raw_field",
            custom_error_message=_EXPECTED,
        )
        return core_schema.nullable_schema(value)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        text = {"type": "string", "maxLength": MAX_TEXT_BYTES}
        return {
            "description": "A value; null: as if the field were absent",
            "anyOf": [
                {"type": "boolean"},
                {"type": "number"},
                text,
                {"type": "array", "items": text, "maxItems": MAX_TEXTS},
                {"type": "null"},
            ],
        }


RawField = TypeAliasType("RawField", Annotated[Any, _Value()])
# Generators of clients know `additionalProperties`, and few of them `patternProperties`.
_Name = Annotated[
    str,
    Field(min_length=1, max_length=_MAX_NAME, pattern=r"^[^\x00-\x1f]*$"),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": _MAX_NAME}),
]
RawFields = Annotated[dict[_Name, RawField], Field(max_length=MAX_FIELDS)]


def check_fields(policy: Policy, context: Fields, candidates: Sequence[Fields]) -> None:
    """Check that a policy can read the fields of a decision.

    Raises:
        RequestValidationError: a field is absent or of a wrong type.
    """
    _check(policy, context, candidates, of_candidates="candidates")


def check_fields_of_reward(policy: Policy, context: Fields, features: Fields) -> None:
    """Check that a policy can read the fields of a reward, as `check_fields` does."""
    _check(policy, context, [features], of_candidates=None)


def _check(policy: Policy, context: Fields, candidates: Sequence[Fields], *, of_candidates: str | None) -> None:
    bad = policy.features.find_bad_field(context, candidates)
    if bad is None:
        return
    if bad.candidate is None:
        place: tuple[str | int, ...] = ("context",)
    elif of_candidates is None:
        place = ("features",)
    else:
        place = (of_candidates, bad.candidate, "features")
    absent = {"msg": f"Field required by the policy {policy.name}", "type": "missing"}
    wrong = {"msg": f"must be {bad.expectation}", "type": "raw_field"}
    raise RequestValidationError(
        [{"loc": ("body", *place, bad.field), **(absent if bad.expectation is None else wrong)}]
    )
