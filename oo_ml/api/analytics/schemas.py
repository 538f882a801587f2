"""Parameters and answers of reports. A number is null if there are no rows to compute it from."""

import re
from datetime import date
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    create_model,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from oo_ml.api.fields import Check, Identifier, PolicyName, Reaction, UtcTime
from oo_ml.api.paging import Paging
from oo_ml.api.schemas import Answer, Page

Number = float | None

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")


class _OrEmpty:
    """Metadata of a parameter that may be left out: an empty value, as forms send it, counts as left out."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - a type
        return core_schema.no_info_before_validator_function(lambda value: value or None, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:  # noqa: ANN401 - a validator
        described = handler(schema)
        return {**described, "anyOf": [*described["anyOf"], {"type": "string", "const": ""}]}


def _day(value: object) -> object:
    # Pydantic takes a number for the seconds since 1970.
    if isinstance(value, str) and not _DAY.fullmatch(value):
        raise PydanticCustomError("date_parsing", "must be a day, as YYYY-MM-DD")
    return value


# Of validators that run before the type's, the last one runs first.
Day = Annotated[date | None, BeforeValidator(_day), _OrEmpty()]


class Selection(BaseModel):
    """Decisions of a report: those of the days from `since` to `until`, UTC, both included."""

    since: Day = Field(None, examples=["2026-11-01"])
    until: Day = Field(None, examples=["2026-11-28"])
    policy: Annotated[PolicyName | None, _OrEmpty()] = Field(None, examples=["linucb-v1"])
    prompt_version: Annotated[Identifier | None, _OrEmpty()] = Field(None, examples=["v2-mentor"])


class PagedSelection(Selection, Paging):
    """A selection, read in pages."""


class Grouping(BaseModel):
    """Grouping of reaction rates."""

    by: Literal["prompt_version", "policy", "all"] = "prompt_version"


class RatesSelection(Selection, Grouping):
    """A selection of decisions, and its grouping."""


class PagedRatesSelection(PagedSelection, Grouping):
    """A selection and its grouping, read in pages."""


class _Group(Answer):
    prompt_version: str | None = Field(description="null: tips that no model wrote, or all versions by policy")
    policy: PolicyName | None = Field(description="null: all")
    shown: int = Field(description="Decisions")


class _Means(Answer):
    rewarded: int = Field(description="Decisions with a reward, default rewards included")
    mean_reward: Number
    mean_reward_low: Number = Field(description="95 % interval, from groups of users; null if the users are too few")
    mean_reward_high: Number


class _WeightedMeans(_Means):
    weighted_mean_reward: Number = Field(description="Weighted by 1 / (propensity x prompt_probability)")
    weighted_mean_reward_low: Number
    weighted_mean_reward_high: Number
    effective_sample_size: Number
    unsupported: int = Field(description="Decisions in which some candidate had no chance")
    unknown_because: str | None = Field(
        description="Reason why the weighted numbers are null, if they are", examples=["nothing was drawn at random"]
    )


def _of_reaction(name: str) -> dict[str, Any]:
    return {
        name: (int, Field(description=f"Decisions: {name}")),
        f"{name}_rate": (Number, Field(description="Their share of shown")),
        f"{name}_low": (Number, Field(description="95 % interval (Wilson), from groups of users")),
        f"{name}_high": (Number, ...),
        f"{name}_weighted_rate": (Number, Field(description="The share by inverse propensity")),
        f"{name}_weighted_low": (Number, Field(description="95 % interval (Wilson), from groups of users")),
        f"{name}_weighted_high": (Number, ...),
    }


REACTIONS: Final = ("reacted", "done", "helpful", "snooze", "not_helpful", "dismiss", "other")
_Reactions = create_model(
    "_Reactions",
    __base__=Answer,
    **{name: field for reaction in REACTIONS for name, field in _of_reaction(reaction).items()},
)


class ReactionRates(_WeightedMeans, _Reactions, _Group):
    """Reactions to the tips of a prompt version, or of a policy: raw, and weighted by inverse propensity."""


class PolicyValues(_Means):
    """Mean reward of a policy, and the estimate for drawing at random among the same candidates."""

    policy: PolicyName
    shown: int = Field(description="Decisions")
    random_mean_reward: Number = Field(description="Estimate for drawing at random, by `estimator`")
    random_mean_reward_low: Number = Field(description="95 % interval, from groups of users")
    random_mean_reward_high: Number
    gain: Number = Field(description="mean_reward less random_mean_reward: the value of choosing")
    gain_low: Number = Field(description="95 % interval, from groups of users")
    gain_high: Number
    effective_sample_size: Number
    unsupported: int = Field(description="Decisions in which some candidate had no chance")
    unknown_because: str | None = Field(
        description="Reason why the estimates are null, if they are", examples=["nothing was drawn at random"]
    )
    estimator: Literal["dr", "snips"] | None = Field(
        description="dr: doubly robust, with theta.x as the model of the reward; snips: some decision has no theta.x"
    )


class PolicyLift(_Means):
    """Lift of a policy over the hold-out, by the decisions for which the traffic chose the policy."""

    policy: PolicyName
    hold_out: PolicyName | None = Field(
        description="Policy with traffic that draws everything at random; the others are compared with it"
    )
    decisions: int = Field(description="Decisions for which the traffic chose this policy")
    share: Number = Field(description="Their share of all such decisions")
    user_groups: int = Field(description="Groups of users with a reward, at most 16")
    lift: Number = Field(description="mean_reward less that of the hold-out; null for the hold-out itself")
    lift_low: Number = Field(description="95 % interval, from groups of users")
    lift_high: Number
    probability_best: Number = Field(
        description="Probability that this policy has the highest mean of those with enough rewards and users"
    )
    unknown_because: str | None = Field(
        description="Reason why the lift is null, if it is", examples=["fewer than 10 rewards of the hold-out"]
    )


class PolicyTrafficByDay(Answer):
    """Decisions of a day for which the traffic chose the policy."""

    day: date
    policy: PolicyName
    decisions: int
    share: float = Field(description="Share of all such decisions of the day")


class RewardsByDay(_Means):
    """Mean reward of a day's decisions: those drawn at random, or the others."""

    day: date
    exploring: bool
    shown: int


class LearningCurve(_Means):
    """Mean reward of users' nth decision since their last reset."""

    policy: PolicyName
    first_decision: int = Field(description="n, or the first n of those taken together")
    last_decision: int
    decisions: int


class PriorHistory(Answer):
    """Version of the prior from which the users of a policy start; `since` and `until` are days of the fits."""

    policy: PolicyName
    version: int
    fitted_at: UtcTime
    users: int = Field(description="Users that it was fitted to")
    rewards: int = Field(description="Rewards of the policy that counted then, those before a reset included")
    noise_variance: float = Field(description="Variance of a reward around theta.x of its user")
    largest_change: Number = Field(
        description="Largest change of a number of the mean against the version before, in standard deviations of"
        " users; null if that version is not kept"
    )
    changed_feature: int | None = Field(description="Place of that number in x, from 1")


class LearningByPrior(_Means):
    """Mean reward of users' first 20 decisions since their last reset, by the prior version they started from."""

    policy: PolicyName
    first_version: int = Field(description="First version of a group: 0, 1, 2, 4, 8, ...; 0: before the first fit")
    last_version: int = Field(description="Last version of the group")
    first_decision: int = Field(description="First number of the decisions: 1, 6, 11 or 16")
    last_decision: int
    decisions: int


class PromptCosts(Answer):
    """Calls, tokens and latency of a prompt version."""

    prompt_version: str
    calls: int
    failed: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    latency_p50_ms: Number
    latency_p95_ms: Number
    done: int = Field(description="Decisions with reaction done, whenever it came, about tips that these calls wrote")
    tokens_per_done: Number
    cost: Number = Field(description="By the prices in the registry; null if the price of a model is not known")
    cost_per_done: Number


class LoopHealth(Answer):
    """A check of the loop of decision and reward."""

    check: Check = Field(validation_alias="check_name", examples=["explored_share"])
    policy: PolicyName | None
    value: Number
    expected: Number
    p_value: Number = Field(description="Probability of a difference at least this large by chance")
    status: Literal["green", "amber", "red", "unknown"]
    reason: str


class ChoicesAnswer(Answer):
    """The values that filters can have."""

    policies: list[PolicyName]
    prompt_versions: list[str]
    first_day: date | None
    last_day: date | None


class DecisionSummary(Answer):
    """A decision; its receipt says more."""

    decision_id: UUID
    decided_at: UtcTime = Field(validation_alias="served_at")
    policy: PolicyName
    tip_id: str
    content: str | None = Field(description="Text of the tip, if known; at most 2,000 characters")
    prompt_version: str | None
    score: float
    propensity: float
    exploring: bool
    reward: Number
    reaction: Reaction = Field(description="none: no reaction yet, or a default reward")
    rewarded_at: UtcTime | None


class ReactionRatesPage(Page[ReactionRates]):
    """Reaction rates, the group with the most decisions first."""


class PolicyValuesPage(Page[PolicyValues]):
    """Values of policies, by name."""


class PolicyLiftPage(Page[PolicyLift]):
    """Lift of policies, by name."""


class PolicyTrafficByDayPage(Page[PolicyTrafficByDay]):
    """Shares of the traffic, the earliest day first."""


class RewardsByDayPage(Page[RewardsByDay]):
    """Mean rewards, the earliest day first."""


class LearningCurvePage(Page[LearningCurve]):
    """Mean rewards, a policy's first decision first."""


class PriorHistoryPage(Page[PriorHistory]):
    """Versions of priors, the latest of each policy first."""


class LearningByPriorPage(Page[LearningByPrior]):
    """Mean rewards, by policy, prior version and decision."""


class PromptCostsPage(Page[PromptCosts]):
    """Costs, the prompt version with the most calls first."""


class LoopHealthPage(Page[LoopHealth]):
    """Checks of the loop of decision and reward."""


class DecisionsPage(Page[DecisionSummary]):
    """Decisions of a user, the latest first."""
