"""What explains a decision."""

from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from oo_ml.api.fields import Policy, UtcTime
from oo_ml.api.raw_features import Moment, ShownFeatures, TaskDescription
from oo_ml.api.schemas import Answer


class ReceiptCandidate(Answer):
    """A candidate as the policy saw it; its score is exploit + explore."""

    id: str
    source: str
    prompt_version: str | None = Field(None, description="As the client named it")
    features: TaskDescription
    exploit: float | None = Field(description="theta.x; null where it was decided by a release that did not keep it")
    explore: float | None = Field(description="alpha sqrt(x^T A^-1 x); 0 for egreedy-v1")
    propensity: float | None = Field(description="The probability with which it was to be chosen")


class RewardChange(Answer):
    """What was said of a decision's reward: a row of the ledger."""

    model_config = ConfigDict(from_attributes=True)

    version: int = Field(description="The version that it made of the epoch's state")
    kind: Literal["reward", "default", "amend", "retract"]
    reward: float | None
    previous_reward: float | None
    recorded_at: UtcTime
    idempotency_key: str | None


class ReceiptAnswer(Answer):
    """A decision with all that explains it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "ada",
                    "decision_id": "01a207ac-5779-7446-ab27-aa4ca4d9dd7a",
                    "policy": "linucb-v1",
                    "decided_at": "2026-11-23T09:11:04.943518Z",
                    "epoch": 0,
                    "version": 0,
                    "tip_id": "t1",
                    "score": 1.7349351572897471,
                    "propensity": 1.0,
                    "exploring": False,
                    "exploration": 0.0,
                    "alpha": 1.0,
                    "draw": [0.643503973413226, 0.29773946117556893],
                    "prompt_version": None,
                    "prompt_probability": None,
                    "generation_id": None,
                    "content": "Call the dentist",
                    "context": {"hour_of_day": 9, "day_of_week": 0},
                    "features": {"hour_of_day": 9, "is_overdue": True, "task_age_days": 3.0, "priority": 4},
                    "x": [0.7071067811865476, -0.7071067811865475, 1.0, 0.1, 1.0],
                    "candidates": [
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
                    "reward": 0.5,
                    "rewarded_at": "2026-11-23T10:00:00.000000Z",
                    "reward_kind": "amend",
                    "rewards": [
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
                }
            ]
        }
    )

    user_id: str
    decision_id: UUID
    policy: Policy
    decided_at: UtcTime
    epoch: int = Field(description="Epoch of the state it was made from")
    version: int = Field(description="Version of that state: changes of A and b in the epoch before it")
    tip_id: str = Field(description="The candidate chosen")
    content: str | None = Field(description="Its text, as sent or as generated, if known; at most 2,000 characters")
    score: float = Field(description="exploit + explore of the candidate chosen")
    propensity: float = Field(description="The probability with which this tip was chosen, all its places together")
    exploring: bool = Field(description="Whether it was drawn at random")
    exploration: float | None = Field(description="Share of decisions drawn at random at that time")
    alpha: float | None = Field(description="Width of the confidence bound; null for egreedy-v1")
    draw: tuple[float, float] = Field(
        description="What the decision_id stands for: below `exploration` it explores, and then the candidate at"
        " the second number times their count is chosen"
    )
    prompt_version: str | None = Field(description="The one that wrote the tip, if a model did")
    prompt_probability: float | None = Field(description="The probability with which that version was picked, if known")
    generation_id: UUID | None = Field(description="The generation that wrote the tip")
    context: Moment
    features: ShownFeatures
    x: list[float] = Field(description="The same as the model saw them")
    candidates: list[ReceiptCandidate]
    reward: float | None = Field(description="The reward that counts")
    rewarded_at: UtcTime | None
    reward_kind: Literal["default", "amend", "retract"] | None = Field(
        description="null: as first received, or none so far"
    )
    rewards: list[RewardChange] = Field(description="What was said of its reward, oldest first")
