"""Bodies and answers of the batch calls: those of the single calls, many at once."""

import re
from typing import Annotated, Final, Generic, Literal, TypeVar

from pydantic import ConfigDict, Discriminator, Field, Tag

from oo_ml.api.decisions.schemas import RewardAnswer, RewardRequest, ScoreAnswer, ScoreRequest
from oo_ml.api.fields import Identifier, PolicyName
from oo_ml.api.policies.schemas import PolicyRewardRequest, PolicyScoreRequest
from oo_ml.api.schemas import EXAMPLE_REQUEST_ID, Answer, Body, Problem, example
from oo_ml.domain.identifiers import POLICY_NAME_PATTERN
from oo_ml.domain.policies import LINUCB, OF_CONTRACT

MAX_ITEMS: Final = 1000

Item = TypeVar("Item")

_NAME: Final = re.compile(POLICY_NAME_PATTERN)

# Single calls have these fields in the path or a header. They are excluded, so that the digest of a request is the same
# in single and batch calls.
_POLICY: Final = "The policy that decides or learns"
ContractPolicy = Annotated[
    PolicyName, Field(description=_POLICY, exclude=True, json_schema_extra={"enum": [*OF_CONTRACT]})
]
OtherPolicy = Annotated[
    PolicyName,
    Field(
        description=f"{_POLICY}: none of linucb-v1 and egreedy-v1",
        exclude=True,
        examples=["articles-v1"],
        json_schema_extra={"not": {"enum": [*OF_CONTRACT]}},
    ),
]
IdempotencyKeyOfItem = Annotated[
    Identifier | None,
    Field(
        exclude=True,
        description="As the header Idempotency-Key of the single call; an ASCII key names the same call in both",
        examples=["9f0c7a1e-reaction-17"],
    ),
]
CONTRACT: Final = "contract"
OF_POLICY: Final = "policy"


class Batch(Body, Generic[Item]):
    """Many calls as one."""

    items: list[Item] = Field(max_length=MAX_ITEMS, description="Of any users, each user's in order; may be empty")


def kind_of(item: object) -> str:
    """Return whose body an item has, by its policy: one of the contract's calls, or one of a published policy."""
    policy = item.get("policy", LINUCB) if isinstance(item, dict) else getattr(item, "policy", None)
    # A malformed name gets the contract's error about it.
    is_of_policy = isinstance(policy, str) and policy not in OF_CONTRACT and _NAME.fullmatch(policy)
    return OF_POLICY if is_of_policy else CONTRACT


class ScoreItem(ScoreRequest):
    """The body of /score, and the policy that decides."""

    model_config = ConfigDict(extra="forbid")

    policy: ContractPolicy = "linucb-v1"


class PolicyScoreItem(PolicyScoreRequest):
    """The body of /policies/{policy}/score, and the policy."""

    model_config = example(
        policy="articles-v1",
        user_id="ada",
        context={"hour": 9.5},
        candidates=[
            {"id": "a1", "features": {"topic": "news", "tags": ["city", "traffic"]}},
            {"id": "a2", "features": {"topic": "sport"}},
        ],
    )

    policy: OtherPolicy


AnyScoreItem = Annotated[
    Annotated[ScoreItem, Tag(CONTRACT)] | Annotated[PolicyScoreItem, Tag(OF_POLICY)], Discriminator(kind_of)
]


class ScoreBatch(Batch[AnyScoreItem]):
    """Decisions to make: items of linucb-v1 and egreedy-v1 have the fields of /score, others those of their call."""

    model_config = example(
        items=[
            {
                "user_id": "ada",
                "candidates": [
                    {"id": "t1", "content": "Call the dentist", "source": "todoist"},
                    {"id": "t2", "content": "Water the plants", "source": "todoist"},
                ],
                "context": {"hour_of_day": 9, "day_of_week": 0},
            },
            {
                "user_id": "ben",
                "policy": "egreedy-v1",
                "candidates": [{"id": "t7", "content": "Stretch for a minute", "source": "llm"}],
            },
        ]
    )


class RewardItem(RewardRequest):
    """The body of /reward, the policy that learns, and the idempotency key."""

    model_config = ConfigDict(extra="forbid")

    policy: ContractPolicy = "linucb-v1"
    idempotency_key: IdempotencyKeyOfItem = None


class PolicyRewardItem(PolicyRewardRequest):
    """The body of /policies/{policy}/reward, the policy, and the idempotency key."""

    model_config = example(
        policy="articles-v1",
        user_id="ada",
        tip_id="a1",
        reward=1,
        context={"hour": 9.5},
        features={"topic": "news", "tags": ["city", "traffic"]},
        idempotency_key="9f0c7a1e-reaction-18",
    )

    policy: OtherPolicy
    idempotency_key: IdempotencyKeyOfItem = None


AnyRewardItem = Annotated[
    Annotated[RewardItem, Tag(CONTRACT)] | Annotated[PolicyRewardItem, Tag(OF_POLICY)], Discriminator(kind_of)
]


class RewardBatch(Batch[AnyRewardItem]):
    """Reactions to learn from; the fields of an item depend on its policy, as in /score/batch."""

    model_config = example(
        items=[
            {
                "user_id": "ada",
                "tip_id": "t1",
                "reward": 1,
                "features": {"hour_of_day": 9, "is_overdue": True, "task_age_days": 3, "priority": 4},
                "day_of_week": 0,
                "idempotency_key": "9f0c7a1e-reaction-17",
            },
            {"user_id": "ben", "policy": "egreedy-v1", "tip_id": "t7", "reward": -0.5, "features": {"hour_of_day": 21}},
        ]
    )


class Refusal(Answer):
    """An item that was refused, and changed nothing: the status and the body that the single call would have had."""

    kind: Literal["refused"] = "refused"
    status: int = Field(ge=400, examples=[404, 409, 422])
    error: Problem


class ScoreDone(Answer):
    """A decision: the answer that /score would have given."""

    kind: Literal["done"] = "done"
    status: Literal[200] = 200
    body: ScoreAnswer


class ScoreBatchAnswer(Answer):
    """The outcome of each item, in order."""

    model_config = example(
        outcomes=[
            {
                "kind": "done",
                "status": 200,
                "body": {
                    "tip_id": "t1",
                    "score": 1.4142135623730951,
                    "policy": "linucb-v1",
                    "decision_id": "01a207ac-5779-7446-ab27-aa4ca4d9dd7a",
                    "propensity": 1.0,
                },
            },
            {
                "kind": "refused",
                "status": 422,
                "error": {"detail": "No candidates", "code": "no_candidates", "request_id": EXAMPLE_REQUEST_ID},
            },
        ]
    )

    outcomes: list[Annotated[ScoreDone | Refusal, Field(discriminator="kind")]]


class RewardDone(Answer):
    """A learned reward: the answer that /reward would have given."""

    kind: Literal["done"] = "done"
    status: Literal[200] = 200
    body: RewardAnswer


class RewardBatchAnswer(Answer):
    """The outcome of each item, in order."""

    model_config = example(
        outcomes=[
            {"kind": "done", "status": 200, "body": {"ok": True, "applied": True, "reward": 1.0, "decision_id": None}},
            {
                "kind": "refused",
                "status": 404,
                "error": {
                    "detail": "This user has no such decision",
                    "code": "unknown_decision",
                    "request_id": EXAMPLE_REQUEST_ID,
                },
            },
        ]
    )

    outcomes: list[Annotated[RewardDone | Refusal, Field(discriminator="kind")]]
