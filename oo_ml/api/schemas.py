"""Base classes of bodies and answers, and the answers of many calls."""

from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from oo_ml.api.error_statuses import CODES

Item = TypeVar("Item", bound=BaseModel)

EXAMPLE_REQUEST_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"

if TYPE_CHECKING:
    ProblemCode = str
else:
    ProblemCode = TypeAliasType("ProblemCode", Literal[CODES])


def example(**fields: Any) -> ConfigDict:  # noqa: ANN401 - JSON
    """Return the configuration of a model that has an example in the OpenAPI document."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class Body(BaseModel):
    """The body of a call, or a part of it: each value of its JSON type, numbers finite, no unknown fields."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True, extra="forbid")


class ContractBody(Body):
    """The body of one of the contract's calls, or a part of it: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


class Answer(BaseModel):
    """The body of a response. A field with a default is always sent, so it is required."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Ok(Answer):
    """Done, and on disk."""

    ok: Literal[True] = True


class Page(Answer, Generic[Item]):
    """Items of a list, in order."""

    items: list[Item]
    next_cursor: str | None = Field(description="Send this as `cursor` to get the next items; null: the end")


class FieldProblem(Answer):
    """Error of a field: its place, the reason, and the kind of error."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(Answer):
    """Error of a call: a sentence or the invalid fields, and a code that stays the same between releases."""

    detail: str | list[FieldProblem] = Field(description="A list for the code `invalid`, else a sentence")
    code: ProblemCode
    request_id: str = Field(description="Id of the request, as in the header X-Request-ID and in the service's log")
