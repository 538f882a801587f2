"""The types of fields: what may stand in a body or a path, whichever call it is.

Whatever passes here can be stored, sent as JSON and named in a URL.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import UUID7, AfterValidator, Field, JsonValue, WithJsonSchema
from typing_extensions import TypeAliasType

from oo_ml.domain.identifiers import MAX_IDENTIFIER_BYTES, is_identifier, is_storable, is_user_id, time_of

# Clocks differ; a decision of the far future would lie in a partition that nobody looks after.
MAX_AHEAD: Final = timedelta(days=1)


def _identifier(text: str) -> str:
    if not is_identifier(text):
        raise ValueError(f"must be 1 to {MAX_IDENTIFIER_BYTES} bytes of text without control characters")
    return text


def _user_id(text: str) -> str:
    if not is_user_id(text):
        raise ValueError('must not be "." or "..", which no URL can carry')
    return text


def _decision_id(decision_id: UUID) -> UUID:
    if time_of(decision_id) > datetime.now(UTC) + MAX_AHEAD:
        raise ValueError("must not be more than a day from now")
    return decision_id


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("must not contain NUL or unpaired surrogates")
    return text


def _json_storable(value: JsonValue) -> JsonValue:
    """Accept JSON whose every number is finite and whose every text can be stored; its depth the parser has bounded."""
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
Policy = TypeAliasType("Policy", Literal["linucb-v1", "egreedy-v1"])
Reaction = TypeAliasType("Reaction", Literal["done", "helpful", "snooze", "not_helpful", "dismiss", "other", "none"])
_CHECKS: Final = (
    "reward_delay_p50",
    "reward_delay_p95",
    "never_rewarded",
    "explored_share",
    "propensity_calibration",
    "states_not_finite",
    "partitions_ahead",
    "uncounted",
)
# Not enforced: during an upgrade the database may know a check that this release does not.
Check = TypeAliasType("Check", Annotated[str, WithJsonSchema({"type": "string", "enum": list(_CHECKS)})])

DecisionId = Annotated[UUID7, AfterValidator(_decision_id)]
Identifier = Annotated[str, Field(min_length=1, max_length=MAX_IDENTIFIER_BYTES), AfterValidator(_identifier)]
UserId = Annotated[Identifier, AfterValidator(_user_id), Field(description="The person, as you name them")]
TipId = Annotated[Identifier, Field(description="The tip")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
# + 0.0: a negative zero is the same reward as zero.
Reward = Annotated[
    float,
    Field(ge=-1, le=1, description="The reaction, in [-1, 1]; 0 is one too"),
    AfterValidator(lambda reward: reward + 0.0),
]
Hour = Annotated[int, Field(ge=0, le=23)]
Weekday = Annotated[int, Field(ge=0, le=6)]
# What PostgreSQL can hold; a pattern, since pydantic calls no Python for it. Unpaired surrogates it refuses by itself.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
# Whatever time zone a session of the database has: the contract's Z is UTC's.
UtcTime = Annotated[datetime, AfterValidator(lambda time: time.astimezone(UTC))]
JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_json_storable)]
Template = Annotated[Text, Field(min_length=1)]
