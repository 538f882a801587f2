"""Bodies and answers of the calls about policies."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, FailFast, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from oo_ml.api.decisions.schemas import MAX_CANDIDATES
from oo_ml.api.fields import (
    DecisionId,
    JsonObject,
    NameOfDecision,
    PolicyName,
    Reward,
    Text,
    TipContent,
    TipId,
    UserId,
    UtcTime,
    VersionOfTip,
)
from oo_ml.api.policies.raw_fields import RawFields
from oo_ml.api.schemas import Answer, Body, Page, example
from oo_ml.definitions import Definition

_DEFINITION = {
    "inputs": [
        {"name": "hour", "of": "context", "encoding": "cyclic", "period": 24},
        {"name": "topic", "of": "candidate", "encoding": "category", "values": ["news", "sport"]},
        {"name": "tags", "of": "candidate", "encoding": "hashed", "buckets": 4, "missing": []},
    ],
    "terms": [{"one": True}, {"input": "topic"}, {"input": "tags"}, {"product": ["topic", "hour"], "times": 0.5}],
    "rule": {"alpha": 1.0, "sigma": 0.3, "exploration": 0.02},
}


class _OfDefinition:
    """Metadata of a JSON object that OpenAPI describes as a definition; `definitions.parse` checks it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - a type
        return handler(source)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(Definition.__pydantic_core_schema__)


class PublishPolicyRequest(Body):
    """A new policy: see docs/guides/policies.md."""

    model_config = example(policy="articles-v1", description="Articles by topic, tags and hour", definition=_DEFINITION)

    policy: PolicyName
    # As many characters as fit into the 1,000 bytes of the column, whatever they are.
    description: Annotated[Text, Field(max_length=250)] = ""
    definition: Annotated[JsonObject, _OfDefinition()] = Field(description="What the policy reads, and how it chooses")


class PolicySummary(Answer):
    """A policy without its definition."""

    model_config = ConfigDict(from_attributes=True)

    policy: PolicyName
    status: Literal["active", "retired"] = Field(description="A retired policy learns, and makes no more decisions")
    published_at: UtcTime
    retired_at: UtcTime | None
    description: str
    dimension: int = Field(description="Number of features d, the length of x and theta")


class PoliciesPage(Page[PolicySummary]):
    """Policies, the oldest first."""


class EffectiveRule(Answer):
    """The rule that a policy decides by."""

    model_config = ConfigDict(from_attributes=True)

    alpha: float | None = Field(description="Width of the confidence bound; null: none")
    sigma: float = Field(description="Width of the vote")
    exploration: float = Field(description="Probability of a uniform draw")


class PolicyAnswer(PolicySummary):
    """A policy."""

    labels: list[str] = Field(description="Names of the numbers in x and theta")
    rule: EffectiveRule = Field(
        description="The rule in effect: settings give linucb-v1 and egreedy-v1 theirs, all others have that of the"
        " definition"
    )
    definition: dict[str, Any] = Field(description="The definition, as it was published")


class DefinitionSchema(Answer):
    """JSON Schema, draft 2020-12, of the definition of a policy."""

    model_config = ConfigDict(extra="allow")


_CONTEXT = "Fields of the decision, the same for all candidates"
_KEPT = "Fields that the definition does not name are kept with the decision, and change nothing"


class PolicyCandidate(Body):
    """A candidate that may be chosen."""

    id: TipId
    features: RawFields = Field(default_factory=dict, description=f"Fields of the candidate. {_KEPT}")
    content: TipContent = None
    prompt_version: VersionOfTip = None


class PolicyScoreRequest(Body):
    """The candidates to choose from."""

    model_config = example(
        user_id="ada",
        context={"hour": 9.5},
        candidates=[
            {"id": "a1", "features": {"topic": "news", "tags": ["city", "traffic"]}},
            {"id": "a2", "features": {"topic": "sport", "words": 820}},
        ],
    )

    user_id: UserId
    context: RawFields = Field(default_factory=dict, description=f"{_CONTEXT}. {_KEPT}")
    # The first invalid candidate is enough: a list of a thousand errors helps no client.
    candidates: Annotated[list[PolicyCandidate], FailFast()] = Field(max_length=MAX_CANDIDATES)
    decision_id: NameOfDecision = None


class PolicyRewardRequest(Body):
    """A reaction in [-1, 1].

    With decision_id the reaction counts once, and the service learns it with the features of the decision. Without one
    it learns from `context` and `features`.
    """

    model_config = example(
        user_id="ada", tip_id="a1", reward=1, context={"hour": 9.5}, features={"topic": "news", "tags": ["city"]}
    )

    user_id: UserId
    tip_id: TipId
    reward: Reward
    decision_id: DecisionId | None = Field(
        None,
        description="The decision that gets the reward, as answered by the score call",
        examples=["01a207ac-5779-7446-ab27-aa4ca4d9dd7a"],
    )
    context: RawFields = Field(default_factory=dict, description=f"{_CONTEXT}; ignored with decision_id")
    features: RawFields = Field(
        default_factory=dict, description="Fields of the candidate that was shown; ignored with decision_id"
    )


class UsersRange(Answer):
    """A number of the theta of the mean user, and the range that holds 95 % of the users."""

    estimate: float = Field(description="The number of mu, the mean of the prior")
    low: float = Field(description="estimate - 1.96 sqrt(S_ii), S = Sigma + C of the prior")
    high: float


class Coefficient(Answer):
    """A number of theta, with its interval."""

    label: str = Field(description="The feature that the number weighs")
    estimate: float = Field(
        description="The number of theta, the mean of the belief N(theta, V) about the user. Before the first reward it"
        " is 0, or the mean of the prior if the policy is pooled"
    )
    low: float = Field(
        description="95 % interval: estimate - 1.96 sqrt(V_ii). Unless the policy is pooled V = A^-1, noise variance 1"
    )
    high: float
    population: UsersRange | None = Field(
        description="The same number of all users; null: the policy is not pooled, each user is learned about alone"
    )


class MeanCoefficient(Answer):
    """A number of theta of the mean user."""

    model_config = ConfigDict(from_attributes=True)

    label: str = Field(description="The feature that the number weighs")
    mean: float
    deviation: float = Field(description="Standard deviation of users around the mean")


class PriorVersion(Answer):
    """A version of the prior from which the users of a policy start. It never changes."""

    model_config = ConfigDict(from_attributes=True)

    version: int = Field(description="1, 2, 3, ...; decisions name it as prior_version")
    fitted_at: UtcTime = Field(description="Time of the fit, to which the rewards were faded")
    users: int = Field(description="Users that it was fitted to: all who have rewards, or 20,000 drawn at random")
    rewards: int = Field(description="Rewards of the policy that counted then, those before a reset included")
    noise_variance: float = Field(description="Variance of a reward around theta.x of its user")
    mean: list[MeanCoefficient] = Field(description="One number a feature, in the order of x")
    largest_change: float | None = Field(
        description="Largest change of the mean since the version before, in standard deviations of users; null: that"
        " version has been deleted"
    )


class PriorsPage(Page[PriorVersion]):
    """Versions of a prior, the latest first."""

    model_config = example(
        items=[
            {
                "version": 3,
                "fitted_at": "2026-11-23T09:12:00.000000Z",
                "users": 812,
                "rewards": 10240,
                "noise_variance": 0.31,
                "mean": [
                    {"label": "one", "mean": 0.18, "deviation": 0.22},
                    {"label": "topic=news", "mean": 0.31, "deviation": 0.27},
                ],
                "largest_change": 0.06,
            }
        ],
        next_cursor=None,
    )


class PolicyUserAnswer(Answer):
    """Counters and model of a user and a policy."""

    model_config = example(
        user_id="ada",
        policy="pooled-v1",
        pulls=12,
        explore_count=2,
        exploration_rate=0.16666666666666666,
        reward_count=9,
        cumulative_reward=3.5,
        estimated_mean_reward=0.3888888888888889,
        theta=[
            {
                "label": "one",
                "estimate": 0.21,
                "low": -0.04,
                "high": 0.46,
                "population": {"estimate": 0.12, "low": -0.31, "high": 0.55},
            },
            {
                "label": "priority",
                "estimate": 0.34,
                "low": 0.02,
                "high": 0.66,
                "population": {"estimate": 0.28, "low": -0.09, "high": 0.65},
            },
        ],
        own_evidence=0.31,
        prior_version=17,
        last_updated="2026-11-23T09:12:00.000000Z",
    )

    user_id: str
    policy: PolicyName
    pulls: int = Field(description="Decisions")
    explore_count: int = Field(description="Decisions that were drawn uniformly")
    exploration_rate: float = Field(description="explore_count / pulls; 0 without decisions")
    reward_count: int = Field(description="The user's own rewards that the model has learned")
    cumulative_reward: float
    estimated_mean_reward: float = Field(description="cumulative_reward / reward_count; 0 without rewards")
    theta: list[Coefficient] = Field(description="One number a feature, in the order of x")
    own_evidence: float | None = Field(
        description="Share of the belief that the user's own rewards gave: 1 - tr(V S^-1) / d, from 0 for an unknown"
        " user to nearly 1; the rest is the prior's. null: the policy is not pooled"
    )
    prior_version: int | None = Field(
        description="Version of the prior that the belief starts from; 0: no prior is fitted yet; null: the policy is"
        " not pooled"
    )
    last_updated: UtcTime | None = Field(description="Time of the latest decision or reward")
