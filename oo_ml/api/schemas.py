"""What the calls take and give, as the contract has it: strict types, bounded lengths, nothing that can't be stored."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from oo_ml.api.fields import Hour, Identifier, JsonObject, Template, Text, TipId, UserId, UtcTime, Version, Weekday

MAX_CANDIDATES = 1000
MAX_TIPS = 20
MAX_TASKS = 1000


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class TaskFeatures(_Body):
    """What is known of the task behind a candidate."""

    hour_of_day: Hour = Field(12, description="When scoring, the context's hour counts instead")
    is_overdue: bool = False
    task_age_days: float = Field(0, ge=-(2**63), lt=2**63, description="Days since due; counts from 0 to 30")
    priority: int = Field(1, ge=1, le=4)


class Candidate(_Body):
    """A tip that may be shown."""

    id: TipId
    content: Text
    source: Text = Field(examples=["todoist", "llm"])
    source_id: str | None = None
    features: TaskFeatures = TaskFeatures()
    prompt_version: Identifier | None = Field(
        None, description="Which prompt version wrote it; default: that of the user's latest generated tip of this id"
    )


class Context(_Body):
    """The moment of the decision, in the person's own time."""

    hour_of_day: Hour = 12
    day_of_week: Weekday = 0


class ScoreRequest(_Body):
    """The candidates to choose from."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "ada",
                    "candidates": [
                        {
                            "id": "t1",
                            "content": "Call the dentist",
                            "source": "todoist",
                            "features": {"is_overdue": True, "task_age_days": 3, "priority": 4},
                        },
                        {"id": "tip-0", "content": "Clear one small thing before lunch.", "source": "llm"},
                    ],
                    "context": {"hour_of_day": 9, "day_of_week": 0},
                }
            ]
        }
    )

    user_id: UserId
    candidates: list[Candidate] = Field(max_length=MAX_CANDIDATES)
    context: Context = Context()


class ScoreAnswer(BaseModel):
    """The candidate chosen."""

    tip_id: str
    score: float
    policy: str
    decision_id: UUID = Field(description="UUIDv7 of this decision")
    propensity: float = Field(description="The probability with which this candidate was chosen", gt=0, le=1)


class RewardRequest(_Body):
    """A reaction: +1 done, +0.5 helpful, 0 snooze, -0.5 not helpful, -1 dismiss."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "ada",
                    "tip_id": "t1",
                    "reward": 1,
                    "features": {"hour_of_day": 9, "is_overdue": True, "task_age_days": 3, "priority": 4},
                    "day_of_week": 0,
                }
            ]
        }
    )

    user_id: UserId
    tip_id: TipId
    reward: float = Field(ge=-1, le=1)
    features: TaskFeatures
    day_of_week: Weekday = 0


class Ok(BaseModel):
    """Done, and on disk."""

    ok: Literal[True] = True


class StatsAnswer(BaseModel):
    """What linucb-v1 has learned of a person."""

    user_id: str
    pulls: int
    reward_count: int
    cumulative_reward: float
    estimated_mean_reward: float
    theta: list[float]
    last_updated: UtcTime | None


class EgreedyStatsAnswer(StatsAnswer):
    """What egreedy-v1 has learned of a person."""

    policy: str
    exploration_rate: float
    feature_labels: list[str]


class HistoryEntry(BaseModel):
    """A decision."""

    ts: UtcTime
    features: dict[str, Any]
    score: float
    tip_id: str
    policy: str


class FeaturesAnswer(BaseModel):
    """The last 100 decisions of both policies, oldest first."""

    user_id: str
    history: list[HistoryEntry]


class GenerateContext(Context):
    """What the model is told of the person's day."""

    tasks: list[JsonObject] = Field(
        default_factory=list, max_length=MAX_TASKS, description="The person's tasks, as you keep them"
    )
    extra: JsonObject = Field(default_factory=dict, description="Anything else the prompt may use")


class GenerateRequest(_Body):
    """Ask the language model for tips."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "ada",
                    "context": {
                        "tasks": [{"content": "Call the dentist", "priority": 4, "is_overdue": True}],
                        "hour_of_day": 9,
                        "day_of_week": 0,
                    },
                    "n": 2,
                }
            ]
        }
    )

    user_id: UserId
    context: GenerateContext = GenerateContext()
    n: int = Field(3, ge=1, le=MAX_TIPS, description="Tips wanted")
    prompt_version: Identifier | None = Field(None, description="Default: as TIP_PROMPT_VERSION says")


class GeneratedCandidate(BaseModel):
    """A tip, ready to be a candidate of /score."""

    id: str
    content: str
    source: Literal["llm"] = "llm"
    rationale: str | None = None


class GenerateAnswer(BaseModel):
    """The tips, and what they cost."""

    candidates: list[GeneratedCandidate]
    model: str
    prompt_version: str = Field(description="The version actually used")
    prompt_tokens: int
    completion_tokens: int
    generation_id: UUID


class PublishRequest(_Body):
    """A new prompt version. Both templates are Jinja2, restricted: see docs/prompts.md."""

    version: Version
    description: Annotated[Text, Field(max_length=250)] = ""
    system_template: Template
    user_template: Template


class PromptSummary(BaseModel):
    """A prompt version without its text."""

    model_config = ConfigDict(from_attributes=True)

    version: str
    status: Literal["active", "retired"]
    published_at: UtcTime
    retired_at: UtcTime | None
    description: str


class PromptAnswer(PromptSummary):
    """A prompt version."""

    system_template: str
    user_template: str


class PromptsAnswer(BaseModel):
    """Every prompt version, the oldest first."""

    prompts: list[PromptSummary]


class FieldProblem(BaseModel):
    """What is wrong with a field: where it is, why it is refused, and what kind of mistake that is."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(BaseModel):
    """Why a call failed: a sentence, or the fields at fault, and a code that stays the same between releases."""

    detail: str | list[FieldProblem]
    code: str
