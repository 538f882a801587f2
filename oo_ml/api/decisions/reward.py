"""POST /reward and /reward/egreedy: learn from a reaction."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Request, Response
from fastapi.exceptions import RequestValidationError

from oo_ml.api.bodies import answer, digest, parse
from oo_ml.api.decisions.schemas import RewardAnswer, RewardRequest
from oo_ml.api.dependencies import services
from oo_ml.api.openapi import documented
from oo_ml.api.statuses import DATABASE
from oo_ml.domain.features import Moment, Task
from oo_ml.domain.identifiers import MAX_IDENTIFIER_BYTES, is_identifier
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import IdempotencyKeyReusedError, InvalidRequestError, OtherTipError, UnknownDecisionError
from oo_ml.services.decisions import Once
from oo_ml.services.decisions.learn import DecisionRewardCommand, RewardCommand, Rewarded, learn

router = APIRouter(tags=["decisions"])

REFUSALS: Final = (InvalidRequestError, UnknownDecisionError, OtherTipError, IdempotencyKeyReusedError)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Names this call, 1 to 200 bytes: sent again with the same body it counts once. Needs no"
        " decision_id; with one, a reward counts once anyway",
        examples=["9f0c7a1e-reaction-17"],
    ),
]


def _documented(name: str) -> dict[str, Any]:
    return documented(name, takes=RewardRequest, gives=RewardAnswer, raises=(*REFUSALS, *DATABASE))


@router.post("/reward", summary="Reward LinUCB", **_documented("reward"))
async def reward(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Add x x^T to A and reward times x to b of linucb-v1. The next decision for this user sees it.

    With decision_id, x and the policy are those of the decision, and a second reward for it changes nothing.
    """
    return await _reward(request, LINUCB, idempotency_key)


@router.post("/reward/egreedy", summary="Reward epsilon-greedy", **_documented("rewardEgreedy"))
async def reward_egreedy(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Add x x^T to A and reward times x to b of egreedy-v1. The next decision for this user sees it.

    With decision_id, x and the policy are those of the decision, and a second reward for it changes nothing.
    """
    return await _reward(request, EPSILON_GREEDY, idempotency_key)


async def _reward(request: Request, policy: str, idempotency_key: str | None) -> Response:
    body = await parse(request, RewardRequest)
    _check(idempotency_key)
    command = reward_command(body, policy, idempotency_key, datetime.now(UTC))
    return answer(reward_answer(await services(request).lanes.run(learn, command.user_id, command)))


def reward_answer(outcome: Rewarded) -> RewardAnswer:
    """Return what is answered to whoever rewards or corrects."""
    return RewardAnswer(applied=outcome.applied, reward=outcome.reward, decision_id=outcome.decision_id)


def reward_command(
    body: RewardRequest, policy: str, idempotency_key: str | None, received_at: datetime
) -> RewardCommand | DecisionRewardCommand:
    """Return what a body asks of a policy; the key, if there is one, names the call."""
    once = None if idempotency_key is None else Once(idempotency_key, digest(body, policy))
    if body.decision_id is not None:
        return DecisionRewardCommand(body.user_id, body.decision_id, body.tip_id, body.reward, received_at, once)
    assert body.features is not None  # noqa: S101 - RewardRequest demands them
    return RewardCommand(
        user_id=body.user_id,
        policy=policy,
        tip_id=body.tip_id,
        reward=body.reward,
        received_at=received_at,
        moment=Moment(body.features.hour_of_day, body.day_of_week),
        task=Task(body.features.is_overdue, body.features.task_age_days, body.features.priority),
        once=once,
    )


def _check(idempotency_key: str | None) -> None:
    if idempotency_key is not None and not is_identifier(idempotency_key):
        problem = {
            "msg": f"must be 1 to {MAX_IDENTIFIER_BYTES} bytes without control characters",
            "type": "value_error",
        }
        raise RequestValidationError([{**problem, "loc": ("header", "idempotency-key")}])
