"""What deciding and learning take and give."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, FailFast, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from oo_ml.api.fields import (
    INTEGER,
    DecisionId,
    Hour,
    Identifier,
    NewDecisionId,
    Policy,
    Reward,
    Text,
    TipId,
    UserId,
    Weekday,
)
from oo_ml.api.schemas import Answer, Body, ContractBody

MAX_CANDIDATES = 1000


class TaskFeatures(ContractBody):
    """What is known of the task behind a candidate."""

    hour_of_day: Hour = Field(12, description="When scoring, the context's hour counts instead")
    is_overdue: bool = False
    task_age_days: float = Field(0.0, ge=-(2**63), lt=2**63, description="Days since due; counts from 0 to 30")
    priority: Annotated[int, Field(ge=1, le=4), INTEGER] = 1


class Candidate(ContractBody):
    """A tip that may be shown."""

    id: TipId
    content: Text | None = Field(
        None,
        description="What the user reads; of the chosen candidate's, 2,000 characters are stored with the decision",
    )
    source: Text = Field(examples=["todoist", "llm"])
    source_id: str | None = None
    features: TaskFeatures = TaskFeatures()
    prompt_version: Identifier | None = Field(
        None, description="Which prompt version wrote it; default: that of the user's latest generated tip of this id"
    )


class Context(ContractBody):
    """The moment of the decision, in the person's own time."""

    hour_of_day: Hour = 12
    day_of_week: Weekday = 0


class ScoreRequest(ContractBody):
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
    # A thousand bad ones would make a long list of what is wrong, of which nobody reads more than the first.
    candidates: Annotated[list[Candidate], FailFast()] = Field(max_length=MAX_CANDIDATES)
    context: Context = Context()
    decision_id: NewDecisionId | None = Field(
        None,
        description="UUIDv7 that names this decision, at most a day from now: sent again, it gets the same answer and"
        " counts once. Default: the service makes one",
        examples=["01a207ac-5779-7446-ab27-aa4ca4d9dd7a"],
    )


class ScoreAnswer(Answer):
    """The candidate chosen."""

    tip_id: str
    score: float
    policy: Policy
    decision_id: UUID = Field(description="UUIDv7 of this decision")
    propensity: float = Field(description="The probability with which this candidate was chosen", gt=0, le=1)


class RewardRequest(ContractBody):
    """A reaction: +1 done, +0.5 helpful, 0 snooze, -0.5 not helpful, -1 dismiss.

    With decision_id it counts once, and is learned with the features that the decision was made with.
    """

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
    reward: Reward
    decision_id: DecisionId | None = Field(
        None,
        description="The decision it is for, as /score answered it",
        examples=["01a207ac-5779-7446-ab27-aa4ca4d9dd7a"],
    )
    features: TaskFeatures | None = Field(
        None, validate_default=True, description="Required without decision_id, of no account with it"
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
    """The reward that is to count for a decision from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reward": 0.5}]})

    reward: Reward


class RewardAnswer(Answer):
    """Done, and on disk."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"ok": True, "applied": True, "reward": 1.0, "decision_id": "01a207ac-5779-7446-ab27-aa4ca4d9dd7a"}
            ]
        }
    )

    ok: Literal[True] = True
    applied: bool = Field(description="Whether this call changed anything: false for one that came before")
    reward: float | None = Field(description="The reward that counts now; null: it was retracted, or there is none")
    decision_id: UUID | None = Field(description="The decision it went to, if there is one")
