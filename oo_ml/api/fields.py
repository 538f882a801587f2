"""Types of the fields of bodies, paths and queries.

A valid value can be stored, sent as JSON and named in a URL.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    UUID7,
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypeAliasType

from oo_ml.domain.identifiers import (
    MAX_IDENTIFIER_BYTES,
    POLICY_NAME_PATTERN,
    is_identifier,
    is_storable,
    is_user_id,
    time_of,
)

# Clocks differ. A decision in the far future would need a partition that upkeep has not made.
MAX_AHEAD: Final = timedelta(days=1)


def _identifier(text: str) -> str:
    # Almost every id is printable ASCII, and Field has checked its length. Deciding that here saves a call for each
    # of a thousand candidates.
    if (text.isascii() and text.isprintable()) or is_identifier(text):
        return text
    raise ValueError(f"must be 1 to {MAX_IDENTIFIER_BYTES} bytes of text without control characters")


def _user_id(text: str) -> str:
    if not is_user_id(text):
        raise ValueError('must not be "." or "..", which no URL can carry')
    return text


def _new_decision_id(decision_id: UUID) -> UUID:
    if time_of(decision_id) > datetime.now(UTC) + MAX_AHEAD:
        raise ValueError("must not be more than a day from now")
    return decision_id


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("must not contain NUL or unpaired surrogates")
    return text


def _json_storable(value: JsonValue) -> JsonValue:
    """Accept JSON in which every number is finite and every text can be stored; the parser has limited its depth."""
    match value:
        case dict():
            for key, inner in value.items():
                _storable(key)
                _json_storable(inner)
        case list():
            for inner in value:
                _json_storable(inner)
        case str():
            _storable(value)
        case float() if not math.isfinite(value):
            raise ValueError("must hold finite numbers only")
    return value


# Named types stand in the OpenAPI document under their names.
PolicyName = Annotated[
    str,
    Field(
        pattern=POLICY_NAME_PATTERN,
        description="Name of a published policy",
        examples=["linucb-v1", "egreedy-v1"],
    ),
]
Reaction = TypeAliasType("Reaction", Literal["done", "helpful", "snooze", "not_helpful", "dismiss", "other", "none"])
_CHECKS: Final = (
    "reward_delay_p50",
    "reward_delay_p95",
    "never_rewarded",
    "explored_share",
    "unsupported_share",
    "propensity_calibration",
    "states_not_finite",
    "partitions_ahead",
    "uncounted",
)
# Not enforced: during an upgrade the database may know a check that this release does not.
Check = TypeAliasType("Check", Annotated[str, WithJsonSchema({"type": "string", "enum": list(_CHECKS)})])


class _Uuid7Error:
    """Metadata of a UUIDv7 field: every error becomes one that says how to make a UUIDv7."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - a type
        return core_schema.custom_error_schema(
            handler(source),
            custom_error_type="uuid7",
            custom_error_message="must be a UUIDv7, which crypto.randomUUID() and uuid.uuid4() do not make. Send the"
            " decision_id that /score answered, or make one for a new decision. JavaScript:"
            ' import { v7 } from "uuid" (npm package uuid). Python: uuid.uuid7() from 3.14 on, before that'
            " uuid_utils.uuid7() (package uuid-utils)",
        )


class _Integer:
    """Metadata of an integer field: 4.0 is accepted as 4, as JSON Schema does; 4.5, true and "4" are refused."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - a type
        number = core_schema.union_schema(
            [core_schema.int_schema(strict=True), core_schema.float_schema(strict=True, allow_inf_nan=False)],
            mode="left_to_right",
            custom_error_type="int_type",
        )
        # Pydantic's lax integer also takes true and "4"; the first step lets only numbers through to it.
        return core_schema.chain_schema([number, {**handler(source), "strict": False}])

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:  # noqa: ANN401 - a chain
        return handler(schema["steps"][-1])


# DecisionId names a decision that exists; NewDecisionId names one to be made, so its time has a limit.
DecisionId = Annotated[UUID7, _Uuid7Error()]
NewDecisionId = Annotated[DecisionId, AfterValidator(_new_decision_id)]
Identifier = Annotated[str, Field(min_length=1, max_length=MAX_IDENTIFIER_BYTES), AfterValidator(_identifier)]
UserId = Annotated[Identifier, AfterValidator(_user_id), Field(description="The user's id, chosen by you")]
TipId = Annotated[Identifier, Field(description="The tip's id")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
# + 0.0: a negative zero is the same reward as zero.
Reward = Annotated[
    float,
    Field(ge=-1, le=1, description="In [-1, 1]; 0 is a reward too"),
    AfterValidator(lambda reward: reward + 0.0),
]
# Stands after the bounds: Annotated[int, Field(ge=1), INTEGER].
INTEGER: Final = _Integer()
Hour = Annotated[int, Field(ge=0, le=23), INTEGER]
Weekday = Annotated[int, Field(ge=0, le=6), INTEGER]
# Text that PostgreSQL can store. Pydantic checks a pattern without calling Python, and refuses unpaired surrogates.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
# Sessions of the database can have any time zone; the contract's times end in Z.
UtcTime = Annotated[datetime, AfterValidator(lambda time: time.astimezone(UTC))]
# Optional fields of every call that chooses.
NameOfDecision = Annotated[
    NewDecisionId | None,
    Field(
        description="UUIDv7 of this decision, at most a day from now: sent again, it gets the same answer and"
        " counts once. Default: the service makes one",
        examples=["01a207ac-5779-7446-ab27-aa4ca4d9dd7a"],
    ),
]
TipContent = Annotated[
    Text | None,
    Field(description="The text that the user reads; that of the chosen candidate is stored, up to 2,000 characters"),
]
VersionOfTip = Annotated[
    Identifier | None,
    Field(
        description="The prompt version that wrote the tip; default: that of the user's latest generated tip"
        " with this id"
    ),
]
JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_json_storable)]
Template = Annotated[Text, Field(min_length=1)]
