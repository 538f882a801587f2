"""POST /score/batch and /reward/batch: many calls as one, of any users and policies, in one transaction.

Each item has the outcome that the call for it alone would have had, and does not disturb its neighbours. Only unknown
fields, which the single calls ignore, are refused here.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from oo_ml.api.bodies import answer, read
from oo_ml.api.decisions.batch_schemas import (
    MAX_ITEMS,
    Batch,
    Item,
    Refusal,
    RewardBatch,
    RewardBatchAnswer,
    RewardDone,
    RewardItem,
    ScoreBatch,
    ScoreBatchAnswer,
    ScoreDone,
    ScoreItem,
)
from oo_ml.api.decisions.endpoints import (
    REWARD_REFUSALS,
    SCORE_REFUSALS,
    decide_command,
    reward_answer,
    reward_command,
    score_answer,
)
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.error_statuses import DATABASE, STATUSES
from oo_ml.api.errors import problem_of, problem_of_fields
from oo_ml.api.openapi import documented
from oo_ml.domain.access import Scope
from oo_ml.domain.policies import Policy
from oo_ml.errors import InvalidRequestError, OoMlError, RetiredPolicyError, UnexpectedError, UnknownPolicyError
from oo_ml.services.decisions.decide import decide
from oo_ml.services.decisions.learn import learn

router = APIRouter(tags=["decisions"], dependencies=[KNOWN_PARAMETERS_ONLY])

Command = TypeVar("Command")
Result = TypeVar("Result")
Done = TypeVar("Done", ScoreDone, RewardDone)

# With OO_ML_LANE_ONE_USER each item has a transaction of its own, which can fail alone.
_OF_ITS_OWN: Final = (*DATABASE, UnexpectedError)


@router.post(
    "/score/batch",
    summary="Choose for many users",
    **documented(
        "scoreBatch",
        Scope.DECIDE,
        takes=ScoreBatch,
        gives=ScoreBatchAnswer,
        raises=(InvalidRequestError, *DATABASE),
        refuses=(*SCORE_REFUSALS, UnknownPolicyError, *_OF_ITS_OWN),
    ),
)
async def score_batch(request: Request) -> Response:
    """Decide for each item, in their order, as /score or /score/egreedy does, in one transaction.

    A refused item has the error as its outcome; the others are decided. Only a body without `items`, or
    with more than 1,000, is a 422 as a whole. A body larger than OO_ML_MAX_BODY_BYTES is a 413: send several.
    """
    items = _items(await request.body(), ScoreBatch, ScoreItem)
    app, now = services(request), datetime.now(UTC)
    active = await _find_policies(items, app.policies.find_active)
    commands = [_command(item, lambda item: decide_command(item, active(item.policy), now)) for item in items]
    outcomes = await _run(partial(app.together, decide), commands, lambda made: ScoreDone(body=score_answer(made)))
    return answer(ScoreBatchAnswer(outcomes=outcomes))


@router.post(
    "/reward/batch",
    summary="Learn from many reactions",
    **documented(
        "rewardBatch",
        Scope.DECIDE,
        takes=RewardBatch,
        gives=RewardBatchAnswer,
        raises=(InvalidRequestError, *DATABASE),
        refuses=(*REWARD_REFUSALS, UnknownPolicyError, *_OF_ITS_OWN),
    ),
)
async def reward_batch(request: Request) -> Response:
    """Learn from each item, in their order, as /reward or /reward/egreedy does, in one transaction.

    A refused item has the error as its outcome; the others are learned. Only a body without `items`, or
    with more than 1,000, is a 422 as a whole. A body larger than OO_ML_MAX_BODY_BYTES is a 413: send several.
    """
    items = _items(await request.body(), RewardBatch, RewardItem)
    app, now = services(request), datetime.now(UTC)
    found = await _find_policies(items, app.policies.find)
    commands = [
        _command(item, lambda item: reward_command(item, found(item.policy), item.idempotency_key, now))
        for item in items
    ]
    outcomes = await _run(partial(app.together, learn), commands, lambda made: RewardDone(body=reward_answer(made)))
    return answer(RewardBatchAnswer(outcomes=outcomes))


def _items(body: bytes, batch: type[Batch[Item]], item: type[Item]) -> Sequence[Item | Refusal]:
    """Return each item of a body, or its refusal.

    Raises:
        RequestValidationError: it has no items, too many, or a field besides them.
    """
    try:
        return batch.model_validate_json(body, extra="forbid").items
    except ValidationError:
        texts = _split_items(body)
    if texts is not None:
        return [_item(text, item) for text in texts]
    try:
        return read(batch, body).items
    except RequestValidationError as error:
        # Only the batch's own problems: a thousand items can have many thousands.
        own = [problem for problem in error.errors() if len(problem["loc"]) <= len(("body", "items"))]
        raise RequestValidationError(own) from None


def _split_items(body: bytes) -> list[str] | None:
    """Return each item of a batch as JSON; None if the body is no batch.

    Pydantic's parser refuses the whole body for one lone surrogate, and Python's accepts it. Parsing apart refuses only
    the item with half an emoji.
    """
    try:
        match json.loads(body.decode()):
            case {"items": list(items), **others} if len(items) <= MAX_ITEMS and not others:
                return [json.dumps(item) for item in items]
    except (ValueError, RecursionError):
        pass
    return None


def _item(text: str, item: type[Item]) -> Item | Refusal:
    try:
        return read(item, text)
    except RequestValidationError as error:
        return Refusal(status=422, error=problem_of_fields(error))


def _command(item: Item | Refusal, command: Callable[[Item], Command]) -> Command | Refusal:
    try:
        return item if isinstance(item, Refusal) else command(item)
    except OoMlError as error:
        return _refusal(error)


async def _find_policies(
    items: Sequence[ScoreItem | RewardItem | Refusal], find: Callable[[str], Awaitable[Policy]]
) -> Callable[[str], Policy]:
    """Return the function that gives the policy of a name among those of `items`, or raises its refusal."""
    found: dict[str, Policy | OoMlError] = {}
    for name in {item.policy for item in items if not isinstance(item, Refusal)}:
        try:
            found[name] = await find(name)
        except (UnknownPolicyError, RetiredPolicyError) as error:
            found[name] = error

    def take(name: str) -> Policy:
        if isinstance(policy := found[name], OoMlError):
            raise policy
        return policy

    return take


def _refusal(error: OoMlError) -> Refusal:
    return Refusal(status=STATUSES[type(error)], error=problem_of(error))


async def _run(
    together: Callable[[Sequence[Command]], Awaitable[Sequence[Result | OoMlError]]],
    commands: Sequence[Command | Refusal],
    done: Callable[[Result], Done],
) -> list[Done | Refusal]:
    """Run the commands that were not refused before; return the outcome of each, in order."""
    made = await together([command for command in commands if not isinstance(command, Refusal)])
    outcomes = iter([_refusal(one) if isinstance(one, OoMlError) else done(one) for one in made])
    return [command if isinstance(command, Refusal) else next(outcomes) for command in commands]
