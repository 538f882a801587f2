"""A decision of a person: what explains it, and correcting its reward."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response

from oo_ml.api.bodies import answer, parse
from oo_ml.api.decisions.receipt_schemas import ReceiptAnswer, ReceiptCandidate, RewardChange
from oo_ml.api.decisions.reward import reward_answer
from oo_ml.api.decisions.schemas import CorrectionRequest, RewardAnswer
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.fields import DecisionId
from oo_ml.api.openapi import documented
from oo_ml.api.paths import REFUSALS, EncodedUserId, decode_user_id
from oo_ml.errors import OoMlError, UnknownDecisionError
from oo_ml.execution.outcomes import only
from oo_ml.services.decisions.learn import CorrectCommand, correct
from oo_ml.services.users.stats import Receipt, ReceiptCommand, receipts

router = APIRouter(tags=["people"], dependencies=[KNOWN_PARAMETERS_ONLY])

DecisionIdInPath = Annotated[
    DecisionId, Path(description="As /score answered it", examples=["01a207ac-5779-7446-ab27-aa4ca4d9dd7a"])
]

_RAISES: Final[tuple[type[OoMlError], ...]] = (UnknownDecisionError, *REFUSALS)


@router.get(
    "/users/{user_id}/decisions/{decision_id}",
    summary="Get the receipt of a decision",
    **documented("getDecision", gives=ReceiptAnswer, raises=_RAISES),
)
async def decision(request: Request, user_id: EncodedUserId, decision_id: DecisionIdInPath) -> Response:
    """Return what a decision was made from, the probability of each candidate, and every change of its reward."""
    command = ReceiptCommand(decode_user_id(user_id), decision_id)
    receipt = only(await services(request).readers.run(receipts, [command]))
    return answer(ReceiptAnswer(**_stored(receipt), **_explained(receipt)))


@router.put(
    "/users/{user_id}/decisions/{decision_id}/reward",
    summary="Amend the reward of a decision",
    **documented("amendReward", takes=CorrectionRequest, gives=RewardAnswer, raises=_RAISES),
)
async def amend(request: Request, user_id: EncodedUserId, decision_id: DecisionIdInPath) -> Response:
    """Set the reward that counts: b becomes what it would be if this reward had come first.

    A decision without a reward gets this one. Sent again, the call changes nothing. The ledger keeps earlier rewards.
    """
    body = await parse(request, CorrectionRequest)
    return await _correct(request, user_id, decision_id, body.reward)


@router.delete(
    "/users/{user_id}/decisions/{decision_id}/reward",
    summary="Retract the reward of a decision",
    **documented("retractReward", gives=RewardAnswer, raises=_RAISES),
)
async def retract(request: Request, user_id: EncodedUserId, decision_id: DecisionIdInPath) -> Response:
    """Take the reward back: A and b become what they would be if it had never come.

    From then on only PUT gives the decision a reward; a late repetition of the retracted one does not.
    """
    return await _correct(request, user_id, decision_id, None)


async def _correct(request: Request, user_id: str, decision_id: UUID, reward: float | None) -> Response:
    command = CorrectCommand(decode_user_id(user_id), decision_id, reward, datetime.now(UTC))
    return answer(reward_answer(await services(request).lanes.run(correct, command.user_id, command)))


def _stored(receipt: Receipt) -> dict[str, Any]:
    return {
        name: getattr(receipt.decision, name)
        for name in ReceiptAnswer.model_fields
        if name not in {"draw", "x", "candidates", "rewards"}
    }


def _explained(receipt: Receipt) -> dict[str, Any]:
    stored = receipt.decision
    columns = [stored.exploit, stored.explore, stored.propensities]
    numbers = [[None] * len(stored.candidates) if column is None else column.tolist() for column in columns]
    return {
        "draw": receipt.draw,
        "x": stored.x.tolist(),
        "candidates": [
            ReceiptCandidate(**candidate, exploit=exploit, explore=explore, propensity=propensity)
            for candidate, exploit, explore, propensity in zip(stored.candidates, *numbers, strict=True)
        ],
        "rewards": [RewardChange.model_validate(entry) for entry in receipt.rewards],
    }
