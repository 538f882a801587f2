"""Bodies and answers of the calls about decisions."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, FailFast, Field, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from oo_ml.api.fields import (
    INTEGER,
    DecisionId,
    Hour,
    NameOfDecision,
    PolicyName,
    Reward,
    Text,
    TipContent,
    TipId,
    UserId,
    UtcTime,
    VersionOfTip,
    Weekday,
)
from oo_ml.api.raw_features import Moment, RawFields, ShownFeatures, TaskDescription
from oo_ml.api.schemas import Answer, Body, ContractBody, example

MAX_CANDIDATES = 1000


class TaskFeatures(ContractBody):
    """The task behind a candidate."""

    hour_of_day: Hour = Field(12, description="Ignored by /score, which uses the context's hour")
    is_overdue: bool = False
    task_age_days: float = Field(0.0, gt=-(2**63), lt=2**63, description="Days since due; counts from 0 to 30")
    priority: Annotated[int, Field(ge=1, le=4), INTEGER] = 1


class Candidate(ContractBody):
    """A tip that may be shown."""

    id: TipId
    content: TipContent = None
    source: Text = Field(examples=["todoist", "llm"])
    source_id: str | None = None
    features: TaskFeatures = TaskFeatures()
    prompt_version: VersionOfTip = None


class Context(ContractBody):
    """The time of the decision, in the user's time zone."""

    hour_of_day: Hour = 12
    day_of_week: Weekday = 0


class ScoreRequest(ContractBody):
    """The candidates to choose from."""

    model_config = example(
        user_id="ada",
        candidates=[
            {
                "id": "t1",
                "content": "Call the dentist",
                "source": "todoist",
                "features": {"is_overdue": True, "task_age_days": 3, "priority": 4},
            },
            {"id": "tip-0", "content": "Clear one small thing before lunch.", "source": "llm"},
        ],
        context={"hour_of_day": 9, "day_of_week": 0},
    )

    user_id: UserId
    # The first invalid candidate is enough: a list of a thousand errors helps no client.
    candidates: Annotated[list[Candidate], FailFast()] = Field(max_length=MAX_CANDIDATES)
    context: Context = Context()
    decision_id: NameOfDecision = None


class ScoreAnswer(Answer):
    """The candidate chosen."""

    tip_id: str
    score: float
    policy: PolicyName
    decision_id: UUID = Field(description="UUIDv7 of this decision")
    propensity: float = Field(description="The probability with which this candidate was chosen", gt=0, le=1)


class RewardRequest(ContractBody):
    """A reaction: +1 done, +0.5 helpful, 0 snooze, -0.5 not helpful, -1 dismiss.

    With decision_id the reaction counts once, and the service learns it with the features of the decision.
    """

    model_config = example(
        user_id="ada",
        tip_id="t1",
        reward=1,
        features={"hour_of_day": 9, "is_overdue": True, "task_age_days": 3, "priority": 4},
        day_of_week=0,
    )

    user_id: UserId
    tip_id: TipId
    reward: Reward
    decision_id: DecisionId | None = Field(
        None,
        description="The decision that gets the reward, as answered by /score",
        examples=["01a207ac-5779-7446-ab27-aa4ca4d9dd7a"],
    )
    features: TaskFeatures | None = Field(
        None, validate_default=True, description="Required without decision_id, ignored with it"
    )
    day_of_week: Weekday = 0

    @field_validator("features")
    @classmethod
    def _something_to_learn_with(cls, features: TaskFeatures | None, info: ValidationInfo) -> TaskFeatures | None:
        # A malformed decision_id is absent from info.data; its own error is the only one to report.
        if features is None and info.data.get("decision_id", ...) is None:
            raise PydanticCustomError("missing", "Field required where no decision_id is given")
        return features


class CorrectionRequest(Body):
    """The reward that counts for a decision from now on."""

    model_config = example(reward=0.5)

    reward: Reward


class RewardAnswer(Answer):
    """Done, and on disk."""

    model_config = example(ok=True, applied=True, reward=1.0, decision_id="01a207ac-5779-7446-ab27-aa4ca4d9dd7a")

    ok: Literal[True] = True
    applied: bool = Field(description="False if the call changed nothing because it had come before")
    reward: float | None = Field(description="The reward that counts now; null: it was retracted, or there is none")
    decision_id: UUID | None = Field(description="The decision that has the reward, if any")


class ReceiptCandidate(Answer):
    """A candidate as the policy saw it; its score is exploit + explore."""

    id: str
    source: str | SkipJsonSchema[None] = Field(
        None, exclude_if=lambda source: source is None, description="Left out if the client sent none"
    )
    prompt_version: str | None = Field(None, description="As sent by the client")
    features: TaskDescription | RawFields
    exploit: float | None = Field(description="theta.x; null if the release that decided did not store it")
    explore: float | None = Field(
        description="alpha sqrt(x^T V x), V the covariance of the belief about theta: A^-1 unless the policy is pooled;"
        " 0 without a bound"
    )
    propensity: float | None = Field(description="The probability with which the policy chooses this candidate")


class RewardChange(Answer):
    """A ledger entry about the reward of a decision."""

    model_config = ConfigDict(from_attributes=True)

    version: int = Field(description="Version of the state after this entry")
    kind: Literal["reward", "default", "amend", "retract"]
    reward: float | None
    previous_reward: float | None
    recorded_at: UtcTime
    idempotency_key: str | None


class ReceiptAnswer(Answer):
    """A decision with everything that explains it."""

    model_config = example(
        user_id="ada",
        decision_id="01a207ac-5779-7446-ab27-aa4ca4d9dd7a",
        policy="linucb-v1",
        policy_probability=None,
        decided_at="2026-11-23T09:11:04.943518Z",
        epoch=0,
        version=0,
        tip_id="t1",
        score=1.7349351572897471,
        propensity=1.0,
        exploring=False,
        exploration=0.0,
        alpha=1.0,
        prior_version=None,
        prior_score=None,
        own_score=None,
        weight=None,
        draw=[0.1686118980456941, 0.45093941246454106],
        labels=["hour_sin", "hour_cos", "is_overdue", "task_age", "priority"],
        definition={
            "inputs": [
                {"name": "hour", "of": "context", "field": "hour_of_day", "encoding": "cyclic", "period": 24},
                {"name": "is_overdue", "of": "candidate", "encoding": "boolean", "missing": False},
            ],
            "terms": [{"input": "hour"}, {"input": "is_overdue"}],
            "rule": {"alpha": 1},
        },
        prompt_version=None,
        prompt_probability=None,
        generation_id=None,
        content="Call the dentist",
        context={"hour_of_day": 9, "day_of_week": 0},
        features={"hour_of_day": 9, "is_overdue": True, "task_age_days": 3.0, "priority": 4},
        x=[0.7071067811865476, -0.7071067811865475, 1.0, 0.1, 1.0],
        candidates=[
            {
                "id": "t1",
                "source": "todoist",
                "prompt_version": None,
                "features": {"is_overdue": True, "task_age_days": 3.0, "priority": 4},
                "exploit": 0.0,
                "explore": 1.7349351572897471,
                "propensity": 1.0,
            },
            {
                "id": "t2",
                "source": "todoist",
                "prompt_version": None,
                "features": {"is_overdue": False, "task_age_days": 0.0, "priority": 1},
                "exploit": 0.0,
                "explore": 1.0,
                "propensity": 0.0,
            },
        ],
        reward=0.5,
        rewarded_at="2026-11-23T10:00:00.000000Z",
        reward_kind="amend",
        rewards=[
            {
                "version": 1,
                "kind": "reward",
                "reward": 1.0,
                "previous_reward": None,
                "recorded_at": "2026-11-23T09:12:00.000000Z",
                "idempotency_key": None,
            },
            {
                "version": 2,
                "kind": "amend",
                "reward": 0.5,
                "previous_reward": 1.0,
                "recorded_at": "2026-11-23T10:00:00.000000Z",
                "idempotency_key": None,
            },
        ],
    )

    user_id: str
    decision_id: UUID
    policy: PolicyName
    policy_probability: float | None = Field(
        description="Share of the users that the traffic gave this policy; null: the client named the policy"
    )
    decided_at: UtcTime
    epoch: int = Field(description="Epoch of the state that the decision was made from")
    version: int = Field(description="Version of that state: number of earlier ledger entries in the epoch")
    tip_id: str = Field(description="The candidate chosen")
    content: str | None = Field(
        description="Text of the tip, as sent or as generated, if known; at most 2,000 characters"
    )
    score: float = Field(description="exploit + explore of the candidate chosen")
    propensity: float = Field(description="The probability with which this tip was chosen, summed over its places")
    exploring: bool = Field(description="True if the tip was drawn at random")
    exploration: float | None = Field(description="Probability of a random draw at that time")
    alpha: float | None = Field(description="Width of the confidence bound; null: none")
    prior_version: int | None = Field(
        description="Version of the prior that the decision started from; 0: before the first fit; null: the policy is"
        " not pooled, like the next three"
    )
    prior_score: float | None = Field(description="Part of theta.x of the chosen tip that the prior gave")
    own_score: float | None = Field(
        description="The rest of theta.x, from the user's own rewards: exploit of the candidate chosen - prior_score"
    )
    weight: float | None = Field(
        description="Weight g of the reward: 2^((decided_at - 2026-01-01) / half-life), 1 without a half-life;"
        " null: the policy is not pooled"
    )
    draw: tuple[float, float] = Field(
        description="Two uniform numbers made from decision_id: of the SHA-256 of its 16 bytes, the first 53 bits of"
        " the first 8 bytes, and those of the next 8. If the first is below `exploration`, the decision explores: it"
        " takes the candidate at the second number times the number of candidates. Otherwise, if the rule has a sigma,"
        " the second number picks among the shares of the vote, added up in the order of the candidates"
    )
    prompt_version: str | None = Field(description="The prompt version that wrote the tip, if a model did")
    prompt_probability: float | None = Field(description="The probability with which that version was drawn, if known")
    generation_id: UUID | None = Field(description="The generation that wrote the tip")
    context: Moment | RawFields
    features: ShownFeatures | RawFields
    x: list[float] = Field(description="The features as the vector that the model used")
    labels: list[str] = Field(description="Names of the numbers in x")
    definition: dict[str, Any] = Field(description="Definition of the policy, as it was published")
    candidates: list[ReceiptCandidate]
    reward: float | None = Field(description="The reward that counts")
    rewarded_at: UtcTime | None
    reward_kind: Literal["default", "amend", "retract"] | None = Field(
        description="null: as first received, or no reward yet"
    )
    rewards: list[RewardChange] = Field(description="Ledger entries about the decision's reward, the oldest first")
