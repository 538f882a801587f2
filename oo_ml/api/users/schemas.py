"""Answers of the calls about users."""

from pydantic import ConfigDict, Field

from oo_ml.api.fields import PolicyName, UtcTime
from oo_ml.api.raw_features import RawFields, ShownFeatures
from oo_ml.api.schemas import Answer, Ok, example


class StatsAnswer(Answer):
    """Counters and model of a user and linucb-v1."""

    model_config = ConfigDict(from_attributes=True)

    user_id: str
    pulls: int
    reward_count: int
    cumulative_reward: float
    estimated_mean_reward: float
    theta: list[float]
    last_updated: UtcTime | None


class EgreedyStatsAnswer(StatsAnswer):
    """Counters and model of a user and egreedy-v1."""

    policy: PolicyName
    exploration_rate: float
    feature_labels: list[str] = Field(validation_alias="labels")


class HistoryEntry(Answer):
    """A decision."""

    ts: UtcTime
    features: ShownFeatures | RawFields
    score: float
    tip_id: str
    policy: PolicyName


class FeaturesAnswer(Answer):
    """The last 100 decisions of all policies, oldest first."""

    user_id: str
    history: list[HistoryEntry]


class VerifyAnswer(Answer):
    """Numbers of rows that were compared, and the first difference."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "ada", "verified": True, "states": 2, "changes": 41, "decisions": 60, "difference": None},
                {
                    "user_id": "ada",
                    "verified": False,
                    "states": 2,
                    "changes": 41,
                    "decisions": 60,
                    "difference": "linucb-v1, epoch 0, version 23: expected b[2] = 4.5, found 4.25",
                },
            ]
        }
    )

    user_id: str
    verified: bool
    states: int = Field(description="Policies that have a state for the user; 0 for an unknown user")
    changes: int = Field(description="Ledger entries that were folded, of all epochs")
    decisions: int = Field(description="Decisions that were compared, of all epochs")
    difference: str | None = Field(description="Place of the first difference, the expected value and the value found")


class EraseAnswer(Ok):
    """Erased, and on disk."""

    model_config = example(
        ok=True,
        user_id="ada",
        erased={"feature_history": 2, "generations": 0, "policy_state": 1, "reward_ledger": 1, "tips": 0},
        total=4,
    )

    user_id: str
    erased: dict[str, int] = Field(description="Rows deleted from each table that can hold rows of a user")
    total: int
