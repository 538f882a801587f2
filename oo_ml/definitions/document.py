"""The document of a definition: what a policy looks at, and how it chooses.

The models check the form of its parts; oo_ml/definitions/parsing.py checks what they say about each other.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

MAX_DIMENSION: Final = 64
_MAX_INPUTS: Final = 64
_MAX_TERMS: Final = 64
_LARGEST: Final = 1e12
# The largest absolute value of a column of x, so |x| is at most 800. With larger ones the sum of x x^T would have no
# digits left for I after some thousand rewards, and no inverse.
LARGEST_COLUMN: Final = 100
# Weights double with each half-life, and float64 has room for 1,000 of them: with a week, for 19 years.
_SHORTEST_HALF_LIFE: Final = 7
_LONGEST_HALF_LIFE: Final = 36_500


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,49}$", description="Names the input, and its columns of x")]
_InputName = Annotated[str, Field(max_length=50)]
# Fields are texts that PostgreSQL can store.
_Field = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]*$")]
_Text = Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f]*$")]
_Bounded = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
_Minus = Annotated[
    float,
    Field(ge=0, le=1, description="Subtracted at the end, from 0..1: the mean of the column centres it"),
]


class _Input(_Part):
    name: _Name
    of: Literal["context", "candidate"] = Field(
        description="Where the field is: in the context, the same for all candidates, or in each candidate's features"
    )
    field: _Field | None = Field(None, description="The field that is read; default: the name of the input")


class NumberInput(_Input):
    """A number, clipped to min..max and scaled to 0..1; one column."""

    encoding: Literal["number"]
    min: _Bounded
    max: _Bounded
    minus: _Minus = 0.0
    missing: _Bounded | None = Field(None, description="Stands for an absent field; without it absence is refused")

    @field_validator("max")
    @classmethod
    def _above_min(cls, high: float, info: ValidationInfo) -> float:
        if "min" in info.data and not high > info.data["min"]:
            raise PydanticCustomError("range", "must be above min")
        return high


class BooleanInput(_Input):
    """true or false, as 1 or 0; one column."""

    encoding: Literal["boolean"]
    minus: _Minus = 0.0
    missing: bool | None = Field(None, description="Stands for an absent field; without it absence is refused")


class CyclicInput(_Input):
    """A number on a circle, such as the hour of the day, as its sine and cosine; two columns."""

    encoding: Literal["cyclic"]
    period: float = Field(ge=1e-6, le=_LARGEST, description="The length of the circle: 24 for hours of the day")
    missing: _Bounded | None = Field(None, description="Stands for an absent field; without it absence is refused")


class CategoryInput(_Input):
    """A text, one of some values; one column a value. Other values are 0 in all columns, and counted."""

    encoding: Literal["category"]
    values: Annotated[list[_Text], Field(min_length=1, max_length=MAX_DIMENSION)]
    missing: _Text | None = Field(None, description="Stands for an absent field; without it absence is refused")

    @field_validator("values")
    @classmethod
    def _different(cls, values: list[str]) -> list[str]:
        for place, value in enumerate(values):
            if value in values[:place]:
                raise PydanticCustomError("repeated", "lists {value} twice", {"value": repr(value)})
        return values

    @field_validator("missing")
    @classmethod
    def _is_value(cls, missing: str | None, info: ValidationInfo) -> str | None:
        if missing is not None and missing not in info.data.get("values", [missing]):
            raise PydanticCustomError("unknown_value", "must be one of values")
        return missing


class HashedInput(_Input):
    """A text or a list of texts of which there are too many to name, such as tags; one column a bucket."""

    encoding: Literal["hashed"]
    buckets: int = Field(
        ge=1, le=MAX_DIMENSION, description="More buckets keep more texts apart, at the cost of more d"
    )
    missing: _Text | Annotated[list[_Text], Field(max_length=20)] | None = Field(
        None, description="Stands for an absent field, [] for no text; without it absence is refused"
    )


Input = Annotated[
    NumberInput | BooleanInput | CyclicInput | CategoryInput | HashedInput, Field(discriminator="encoding")
]


class Term(_Part):
    """Columns of x: one of the constant 1, the columns of an input, or the products of the columns of two inputs."""

    one: Literal[True] | None = Field(None, description="The constant 1")
    input: _InputName | None = Field(None, description="The name of an input: its columns")
    product: Annotated[list[_InputName], Field(min_length=2, max_length=2)] | None = Field(
        None, description="The names of two inputs: each column of the first times each of the second"
    )
    times: float = Field(
        1.0,
        gt=0,
        le=LARGEST_COLUMN,
        description="A factor of all columns: a larger one lets the term vary more. No column may exceed 100",
    )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs: none for the constant."""
        return tuple(self.product or ([] if self.input is None else [self.input]))


class Rule(_Part):
    """Rule by which the policy chooses; without any number it takes the candidate with the highest theta.x."""

    alpha: float | None = Field(None, ge=0, le=1e6, description="LinUCB: the width of the confidence bound; null: none")
    sigma: float = Field(0.0, ge=0, le=1e6, description="The width of the vote; 1 without alpha is Thompson sampling")
    exploration: float = Field(0.0, ge=0, le=1, description="Probability of a uniform draw; 1: every choice is uniform")


class Evidence(_Part):
    """Evidence about a user: where it starts from, and how long a reward counts."""

    prior: Literal["population"] = Field(
        description="Each user starts from what all users have in common; a prior that is fitted again and again"
    )
    half_life_days: float | None = Field(
        None,
        ge=_SHORTEST_HALF_LIFE,
        le=_LONGEST_HALF_LIFE,
        description="The time in which a reward comes to count half; without it a reward always counts the same",
    )


class Definition(_Part):
    """Definition of a policy: the fields it looks at, and its rule. It never changes once it is published."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "inputs": [
                        {"name": "hour", "of": "context", "encoding": "cyclic", "period": 24},
                        {"name": "topic", "of": "candidate", "encoding": "category", "values": ["news", "sport"]},
                        {"name": "tags", "of": "candidate", "encoding": "hashed", "buckets": 8, "missing": []},
                    ],
                    "terms": [
                        {"one": True},
                        {"input": "topic"},
                        {"input": "tags"},
                        {"product": ["topic", "hour"], "times": 0.5},
                    ],
                    "rule": {"alpha": 1.0, "sigma": 0.3, "exploration": 0.02},
                }
            ]
        }
    )

    inputs: Annotated[list[Input], Field(max_length=_MAX_INPUTS)] = Field(description="The fields that are read")
    terms: Annotated[list[Term], Field(min_length=1, max_length=_MAX_TERMS)] = Field(
        description="The columns of x, in order; at most 64 columns in all"
    )
    rule: Rule
    evidence: Evidence | None = Field(
        None, description="Makes the policy a pooled one; without it each user is learned about alone"
    )
