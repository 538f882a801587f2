"""What is known of a person."""

from pydantic import ConfigDict, Field

from oo_ml.api.fields import Policy, UtcTime
from oo_ml.api.raw_features import ShownFeatures
from oo_ml.api.schemas import Answer, Ok


class StatsAnswer(Answer):
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

    policy: Policy
    exploration_rate: float
    feature_labels: list[str]


class HistoryEntry(Answer):
    """A decision."""

    ts: UtcTime
    features: ShownFeatures
    score: float
    tip_id: str
    policy: Policy


class FeaturesAnswer(Answer):
    """The last 100 decisions of both policies, oldest first."""

    user_id: str
    history: list[HistoryEntry]


class VerifyAnswer(Answer):
    """What was compared, and the first thing that is not as it should be."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "ada",
                    "verified": True,
                    "states": 2,
                    "changes": 41,
                    "decisions": 60,
                    "difference": None,
                },
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
    states: int = Field(description="Policies that know the person: 0 for somebody never seen")
    changes: int = Field(description="Rows of the ledger that were folded, of every epoch")
    decisions: int = Field(description="Rows of the history, of every epoch")
    difference: str | None = Field(description="Where the first difference is, what was expected and what was found")


class EraseAnswer(Ok):
    """Gone, and on disk."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "user_id": "ada",
                    "erased": {
                        "feature_history": 2,
                        "generations": 0,
                        "policy_state": 1,
                        "reward_ledger": 1,
                        "tips": 0,
                    },
                    "total": 4,
                }
            ]
        }
    )

    user_id: str
    erased: dict[str, int] = Field(description="Rows deleted from each table that can hold any of a person")
    total: int
