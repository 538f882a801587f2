"""POST /score and /score/egreedy: choose one of the candidates."""

from datetime import UTC, datetime
from typing import Any, Final

import uuid_utils.compat as uuid_utils
from fastapi import APIRouter, Request, Response

from oo_ml.api.bodies import answer, digest, parse
from oo_ml.api.decisions.schemas import ScoreAnswer, ScoreRequest
from oo_ml.api.dependencies import services
from oo_ml.api.openapi import documented
from oo_ml.api.statuses import DATABASE
from oo_ml.domain.features import Moment
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import DecisionExistsError, DecisionTooOldError, InvalidRequestError, NoCandidatesError
from oo_ml.services.decisions.decide import Answer, DecideCommand

router = APIRouter(tags=["decisions"])

REFUSALS: Final = (InvalidRequestError, NoCandidatesError, DecisionExistsError, DecisionTooOldError)


def _documented(name: str) -> dict[str, Any]:
    return documented(name, takes=ScoreRequest, gives=ScoreAnswer, raises=(*REFUSALS, *DATABASE))


@router.post("/score", summary="Choose by LinUCB", **_documented("score"))
async def score(request: Request) -> Response:
    """Choose the candidate with the highest theta.x + alpha sqrt(x^T A^-1 x), the first among equals."""
    return await _score(request, LINUCB)


@router.post("/score/egreedy", summary="Choose by epsilon-greedy", **_documented("scoreEgreedy"))
async def score_egreedy(request: Request) -> Response:
    """Choose any candidate with probability epsilon, else the one with the highest theta.x, the first among equals."""
    return await _score(request, EPSILON_GREEDY)


async def _score(request: Request, policy: str) -> Response:
    command = decide_command(await parse(request, ScoreRequest), policy, datetime.now(UTC))
    app = services(request)
    return answer(score_answer(await app.lanes.run(app.decide, command.user_id, command)))


def decide_command(body: ScoreRequest, policy: str, decided_at: datetime) -> DecideCommand:
    """Return what a body asks of a policy.

    Raises:
        NoCandidatesError: there is nothing to choose from.
    """
    if not body.candidates:
        raise NoCandidatesError
    return DecideCommand(
        user_id=body.user_id,
        policy=policy,
        decision_id=body.decision_id or uuid_utils.uuid7(),
        decided_at=decided_at,
        moment=Moment(body.context.hour_of_day, body.context.day_of_week),
        candidates=body.candidates,
        request_digest=digest(body, policy) if body.decision_id is not None else None,
    )


def score_answer(decision: Answer) -> ScoreAnswer:
    """Return what is answered to whoever asked for a decision: the very answer that is stored with it."""
    return ScoreAnswer.model_validate(decision.content)
