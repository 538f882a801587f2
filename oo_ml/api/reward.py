"""POST /reward and /reward/egreedy: learn from a reaction."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from oo_ml.api.bodies import answer, documented, parse
from oo_ml.api.dependencies import services
from oo_ml.api.schemas import Ok, RewardRequest
from oo_ml.domain.features import Moment, Task
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.services.reward import RewardCommand, learn

router = APIRouter(tags=["decisions"])

_PROBLEMS = {422: "A field is out of range", 503: "The database can't take it now; try again"}


@router.post("/reward", summary="Teach LinUCB", **documented(RewardRequest, Ok, _PROBLEMS))
async def reward(request: Request) -> Response:
    """Add x x^T to A and reward times x to b of linucb-v1. The next decision for this user sees it."""
    return await _reward(request, LINUCB)


@router.post("/reward/egreedy", summary="Teach epsilon-greedy", **documented(RewardRequest, Ok, _PROBLEMS))
async def reward_egreedy(request: Request) -> Response:
    """Add x x^T to A and reward times x to b of egreedy-v1. The next decision for this user sees it."""
    return await _reward(request, EPSILON_GREEDY)


async def _reward(request: Request, policy: str) -> Response:
    body = await parse(request, RewardRequest)
    command = RewardCommand(
        user_id=body.user_id,
        policy=policy,
        tip_id=body.tip_id,
        reward=body.reward,
        received_at=datetime.now(UTC),
        moment=Moment(body.features.hour_of_day, body.day_of_week),
        task=Task(body.features.is_overdue, body.features.task_age_days, body.features.priority),
    )
    await services(request).writers.run(learn, [command])
    return answer(Ok())
