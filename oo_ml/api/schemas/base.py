"""What bodies have in common, and the answers that many calls give."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """The body of a call, or a part of it: each value of its JSON type, numbers finite, no unknown fields."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True, extra="forbid")


class ContractBody(Body):
    """The body of one of the contract's calls, or a part of it: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


class Ok(BaseModel):
    """Done, and on disk."""

    ok: Literal[True] = True


class FieldProblem(BaseModel):
    """What is wrong with a field: where it is, why it is refused, and what kind of mistake that is."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(BaseModel):
    """Why a call failed: a sentence, or the fields at fault, and a code that stays the same between releases."""

    detail: str | list[FieldProblem]
    code: str
