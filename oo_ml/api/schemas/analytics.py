"""Reports: rows of numbers. A number is null where there is nothing to compute it from."""

from datetime import date
from typing import Annotated, Any, Final, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, create_model

from oo_ml.api.fields import Identifier, UtcTime

MAX_ROWS: Final = 1000

Row = TypeVar("Row", bound=BaseModel)
Number = float | None


def _absent(value: object) -> object:
    """An empty field of a form is one that was left out."""
    return None if value == "" else value


Day = Annotated[date | None, BeforeValidator(_absent)]
Name = Annotated[Identifier | None, BeforeValidator(_absent)]


class Selection(BaseModel):
    """Which decisions a report is about: of the days from `since` to `until`, UTC, both included."""

    since: Day = Field(None, examples=["2026-11-01"])
    until: Day = Field(None, examples=["2026-11-28"])
    policy: Name = Field(None, examples=["linucb-v1"])
    prompt_version: Name = Field(None, examples=["v2-mentor"])


class PagedSelection(Selection):
    """The same, a page at a time."""

    limit: int = Field(100, ge=1, le=MAX_ROWS)
    offset: int = Field(0, ge=0, le=2**31)


class Grouping(BaseModel):
    """What reaction rates have a row of."""

    by: Literal["prompt_version", "policy"] = "prompt_version"


class RatesSelection(Selection, Grouping):
    """Which decisions, and what there is a row of."""


class PagedRatesSelection(PagedSelection, Grouping):
    """The same, a page at a time."""


class PageAnswer(BaseModel, Generic[Row]):
    """Some rows of a report."""

    items: list[Row]
    total: int = Field(description="Rows in all")
    limit: int
    offset: int


class _Group(BaseModel):
    prompt_version: str | None = Field(description="null: tips that no model wrote, or all versions by policy")
    policy: str | None = Field(description="null: all")
    shown: int = Field(description="Decisions")


class _Means(BaseModel):
    rewarded: int = Field(description="Decisions with a reward that counts, assumed ones too")
    mean_reward: Number
    mean_reward_low: Number = Field(description="95 % interval")
    mean_reward_high: Number


class _WeightedMeans(_Means):
    weighted_mean_reward: Number = Field(description="Each counted 1 / (propensity x prompt_probability) times")
    weighted_mean_reward_low: Number
    weighted_mean_reward_high: Number
    effective_sample_size: Number


def _of_reaction(name: str) -> dict[str, Any]:
    return {
        name: (int, Field(description=f"Decisions: {name}")),
        f"{name}_rate": (Number, Field(description="Their share of shown")),
        f"{name}_low": (Number, Field(description="95 % interval (Wilson)")),
        f"{name}_high": (Number, ...),
        f"{name}_weighted_rate": (Number, Field(description="The share by inverse propensity")),
        f"{name}_weighted_low": (Number, Field(description="95 % interval (Wilson)")),
        f"{name}_weighted_high": (Number, ...),
    }


REACTIONS: Final = ("reacted", "done", "helpful", "snooze", "not_helpful", "dismiss", "other")
_Reactions = create_model(
    "_Reactions", **{name: field for reaction in REACTIONS for name, field in _of_reaction(reaction).items()}
)


class ReactionRates(_WeightedMeans, _Reactions, _Group):
    """How people reacted to tips of a prompt version, or of a policy: raw, and weighted by inverse propensity."""


class RewardsByDay(_Means):
    """Mean reward of a day's tips, those drawn at random or the others."""

    day: date
    exploring: bool
    shown: int


class LearningCurve(_Means):
    """Mean reward of people's nth decision since their last reset."""

    policy: str
    first_decision: int = Field(description="n, or the first n of those taken together")
    last_decision: int
    decisions: int


class PromptCosts(BaseModel):
    """What the tips of a prompt version cost."""

    prompt_version: str
    calls: int
    failed: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    latency_p50_ms: Number
    latency_p95_ms: Number
    done: int
    tokens_per_done: Number


class LoopHealth(BaseModel):
    """Whether something about the loop is as it should be."""

    check: str = Field(validation_alias="check_name", examples=["explored_share"])
    policy: str | None
    value: Number
    expected: Number
    p_value: Number = Field(description="How likely it is to be this far off by chance")
    status: Literal["green", "amber", "red", "unknown"]
    reason: str


class ChoicesAnswer(BaseModel):
    """What there is to filter by."""

    policies: list[str]
    prompt_versions: list[str]
    first_day: date | None
    last_day: date | None


class DecisionSummary(BaseModel):
    """A decision; its receipt says more."""

    decision_id: UUID
    decided_at: UtcTime = Field(validation_alias="served_at")
    policy: str
    tip_id: str
    prompt_version: str | None
    score: float
    propensity: float
    exploring: bool
    reward: Number
    reaction: str = Field(description="done, helpful, snooze, not_helpful, dismiss, other or none")
    rewarded_at: UtcTime | None


class DecisionsAnswer(BaseModel):
    """A person's decisions, the latest first."""

    user_id: str
    decisions: list[DecisionSummary]
    next: UUID | None = Field(description="Send it as `before` for those before; null: there are none")
