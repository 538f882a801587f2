"""Decisions of a user: choose a candidate, learn a reward, read the receipt, correct the reward."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import uuid_utils.compat as uuid_utils
from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.exceptions import RequestValidationError

from oo_ml import errors
from oo_ml.api.bodies import answer, digest, parse
from oo_ml.api.decisions import schemas
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.error_statuses import DATABASE
from oo_ml.api.fields import DecisionId
from oo_ml.api.openapi import documented
from oo_ml.api.paths import REFUSALS, UserIdInPath
from oo_ml.api.raw_features import fields_of_moment, fields_of_task, show_features
from oo_ml.domain.access import Scope
from oo_ml.domain.identifiers import MAX_IDENTIFIER_BYTES, is_identifier
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB, Policy
from oo_ml.execution.outcomes import only
from oo_ml.services.decisions.decide import Answer, Candidate, DecideCommand, decide
from oo_ml.services.decisions.learn import (
    CorrectCommand,
    DecisionRewardCommand,
    IdempotencyKey,
    RewardCommand,
    Rewarded,
    correct,
    learn,
)
from oo_ml.services.policies.catalogue import Assigned
from oo_ml.services.users.stats import DecisionKey, Receipt, read_receipts

router = APIRouter(tags=["decisions"])
# The calls about one decision of a user; unlike the contract's calls they refuse unknown parameters.
receipt_router = APIRouter(
    prefix="/users/{user_id}/decisions/{decision_id}", tags=["users"], dependencies=[KNOWN_PARAMETERS_ONLY]
)

SCORE_REFUSALS: Final = (
    errors.InvalidRequestError,
    errors.NoCandidatesError,
    errors.DecisionExistsError,
    errors.DecisionTooOldError,
    errors.RetiredPolicyError,
    errors.UnreadablePolicyError,
)
REWARD_REFUSALS: Final = (
    errors.InvalidRequestError,
    errors.UnknownDecisionError,
    errors.OtherTipError,
    errors.IdempotencyKeyReusedError,
    errors.UnreadablePolicyError,
)
_RECEIPT_REFUSALS: Final[Sequence[type[errors.OoMlError]]] = (errors.UnknownDecisionError, *REFUSALS)

IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Names this call, 1 to 200 bytes: sent again with the same body it counts once. Needs no"
        " decision_id; with one, a reward counts once anyway",
        examples=["9f0c7a1e-reaction-17"],
    ),
]
DecisionIdInPath = Annotated[
    DecisionId, Path(description="As answered by /score", examples=["01a207ac-5779-7446-ab27-aa4ca4d9dd7a"])
]


def _score_documented(name: str) -> dict[str, Any]:
    return documented(
        name, Scope.DECIDE, takes=schemas.ScoreRequest, gives=schemas.ScoreAnswer, raises=(*SCORE_REFUSALS, *DATABASE)
    )


def _reward_documented(name: str) -> dict[str, Any]:
    return documented(
        name,
        Scope.DECIDE,
        takes=schemas.RewardRequest,
        gives=schemas.RewardAnswer,
        raises=(*REWARD_REFUSALS, *DATABASE),
    )


@router.post("/score", summary="Choose a tip", **_score_documented("score"))
async def score(request: Request) -> Response:
    """Choose by the user's policy, as the traffic says; without traffic by linucb-v1.

    linucb-v1 chooses the candidate with the highest theta.x + alpha sqrt(x^T A^-1 x); of equal ones the first. The
    answer says which policy decided.
    """
    return await _score(request, LINUCB, by_traffic=True)


@router.post("/score/egreedy", summary="Choose by epsilon-greedy", **_score_documented("scoreEgreedy"))
async def score_egreedy(request: Request) -> Response:
    """With probability epsilon choose at random, else the highest theta.x; of equal candidates the first."""
    return await _score(request, EPSILON_GREEDY, by_traffic=False)


@router.post("/reward", summary="Reward a tip", **_reward_documented("reward"))
async def reward(request: Request, idempotency_key: IdempotencyKeyHeader = None) -> Response:
    """Add x x^T to A and reward times x to b of the user's policy: as the traffic says, without it linucb-v1.

    With decision_id, x and the policy are those of the decision, and a second reward for it changes nothing.
    """
    return await _reward(request, LINUCB, idempotency_key, by_traffic=True)


@router.post("/reward/egreedy", summary="Reward epsilon-greedy", **_reward_documented("rewardEgreedy"))
async def reward_egreedy(request: Request, idempotency_key: IdempotencyKeyHeader = None) -> Response:
    """Add x x^T to A and reward times x to b of egreedy-v1. The user's next decision uses it.

    With decision_id, x and the policy are those of the decision, and a second reward for it changes nothing.
    """
    return await _reward(request, EPSILON_GREEDY, idempotency_key, by_traffic=False)


@receipt_router.get(
    "",
    summary="Get the receipt of a decision",
    **documented(
        "getDecision",
        Scope.READ,
        gives=schemas.ReceiptAnswer,
        raises=(*_RECEIPT_REFUSALS, errors.UnreadablePolicyError),
    ),
)
async def decision(request: Request, user_id: UserIdInPath, decision_id: DecisionIdInPath) -> Response:
    """Return the input of a decision, the propensity of each candidate, and every change of its reward."""
    key = DecisionKey(user_id, decision_id)
    app = services(request)
    receipt = only(await app.readers.run(read_receipts, [key]))
    return answer(_receipt_answer(receipt, await app.policies.find(receipt.decision.policy)))


@receipt_router.put(
    "/reward",
    summary="Amend the reward of a decision",
    **documented(
        "amendReward",
        Scope.DECIDE,
        takes=schemas.CorrectionRequest,
        gives=schemas.RewardAnswer,
        raises=_RECEIPT_REFUSALS,
    ),
)
async def amend(request: Request, user_id: UserIdInPath, decision_id: DecisionIdInPath) -> Response:
    """Set the reward that counts for a decision. b changes as if this reward had come first.

    A decision without a reward gets this one. Sent again, the call changes nothing. The ledger keeps earlier rewards.
    """
    body = await parse(request, schemas.CorrectionRequest)
    return await _correct(request, user_id, decision_id, body.reward)


@receipt_router.delete(
    "/reward",
    summary="Retract the reward of a decision",
    **documented("retractReward", Scope.DECIDE, gives=schemas.RewardAnswer, raises=_RECEIPT_REFUSALS),
)
async def retract(request: Request, user_id: UserIdInPath, decision_id: DecisionIdInPath) -> Response:
    """Take the reward out of the state: A and b change as if it had never come.

    After that only PUT gives the decision a reward; a late repetition of the retracted reward does not.
    """
    return await _correct(request, user_id, decision_id, None)


def decide_command(body: schemas.ScoreRequest, call: str, assigned: Assigned, decided_at: datetime) -> DecideCommand:
    """Return the command of a body.

    Args:
        body: of /score or /score/egreedy.
        call: the policy of the contract that the call is for.
        assigned: the policy that decides.
        decided_at: time of the call.

    Raises:
        NoCandidatesError: the body has no candidates.
    """
    if not body.candidates:
        raise errors.NoCandidatesError
    return DecideCommand(
        user_id=body.user_id,
        policy=assigned.policy,
        decision_id=body.decision_id or uuid_utils.uuid7(),
        decided_at=decided_at,
        context=fields_of_moment(body.context.hour_of_day, body.context.day_of_week),
        candidates=[
            Candidate(one.id, fields_of_task(one.features), one.source, one.content, one.prompt_version)
            for one in body.candidates
        ],
        # By the call: sent again after a change of the traffic, it is still the same request.
        request_digest=digest(body, call) if body.decision_id is not None else None,
        policy_probability=assigned.probability,
    )


def score_answer(made: Answer) -> schemas.ScoreAnswer:
    """Return the answer that is stored with a decision."""
    return schemas.ScoreAnswer.model_validate(made.content)


def reward_command(
    body: schemas.RewardRequest, call: str, policy: Policy, idempotency_key: str | None, received_at: datetime
) -> RewardCommand | DecisionRewardCommand:
    """Return the command of a body for a policy; `call` is the policy of the contract that the call is for."""
    key = None if idempotency_key is None else IdempotencyKey(idempotency_key, digest(body, call))
    if body.decision_id is not None:
        return DecisionRewardCommand(body.user_id, body.decision_id, body.tip_id, body.reward, received_at, key)
    assert body.features is not None  # noqa: S101 - RewardRequest demands them
    return RewardCommand(
        user_id=body.user_id,
        policy=policy,
        tip_id=body.tip_id,
        reward=body.reward,
        received_at=received_at,
        context=fields_of_moment(body.features.hour_of_day, body.day_of_week),
        features=fields_of_task(body.features),
        idempotency_key=key,
    )


def reward_answer(outcome: Rewarded) -> schemas.RewardAnswer:
    """Return the answer to a reward or a correction."""
    return schemas.RewardAnswer(applied=outcome.applied, reward=outcome.reward, decision_id=outcome.decision_id)


async def _score(request: Request, call: str, *, by_traffic: bool) -> Response:
    body = await parse(request, schemas.ScoreRequest)
    app = services(request)
    if by_traffic:
        assigned = await app.policies.assign(body.user_id, call)
    else:
        assigned = Assigned(await app.policies.find(call))
    command = decide_command(body, call, assigned, datetime.now(UTC))
    return answer(score_answer(await app.lanes.run(decide, command.user_id, command)))


async def _reward(request: Request, call: str, idempotency_key: str | None, *, by_traffic: bool) -> Response:
    body = await parse(request, schemas.RewardRequest)
    check_idempotency_key(idempotency_key)
    app = services(request)
    if by_traffic:
        policy = (await app.policies.assign(body.user_id, call)).policy
    else:
        policy = await app.policies.find(call)
    command = reward_command(body, call, policy, idempotency_key, datetime.now(UTC))
    return answer(reward_answer(await app.lanes.run(learn, command.user_id, command)))


async def _correct(request: Request, user_id: str, decision_id: UUID, reward: float | None) -> Response:
    command = CorrectCommand(user_id, decision_id, reward, datetime.now(UTC))
    return answer(reward_answer(await services(request).lanes.run(correct, command.user_id, command)))


def check_idempotency_key(idempotency_key: str | None) -> None:
    """Check the value of the header Idempotency-Key.

    Raises:
        RequestValidationError: it is no valid key.
    """
    if idempotency_key is not None and not is_identifier(idempotency_key):
        problem = {
            "msg": f"must be 1 to {MAX_IDENTIFIER_BYTES} bytes without control characters",
            "type": "value_error",
        }
        raise RequestValidationError([{**problem, "loc": ("header", "idempotency-key")}])


def _receipt_answer(receipt: Receipt, policy: Policy) -> schemas.ReceiptAnswer:
    stored = receipt.decision
    columns = [stored.exploit, stored.explore, stored.propensities]
    numbers = [[None] * len(stored.candidates) if column is None else column.tolist() for column in columns]
    made = {
        "draw": receipt.draw,
        "own_score": receipt.own_score,
        "features": show_features(stored.policy, stored.context, stored.features, exploring=stored.exploring),
        "x": stored.x.tolist(),
        "labels": list(policy.features.labels),
        "definition": policy.definition,
        "candidates": [
            schemas.ReceiptCandidate(**candidate, exploit=exploit, explore=explore, propensity=propensity)
            for candidate, exploit, explore, propensity in zip(stored.candidates, *numbers, strict=True)
        ],
        "rewards": [schemas.RewardChange.model_validate(entry) for entry in receipt.rewards],
    }
    rest = {name: getattr(stored, name) for name in schemas.ReceiptAnswer.model_fields.keys() - made.keys()}
    return schemas.ReceiptAnswer(**made, **rest)
