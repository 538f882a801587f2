"""POST /score/batch and /reward/batch: many calls as one, of any users and policies, in one transaction.

Each item has the outcome that the call for it alone would have had, and does not disturb its neighbours. Only unknown
fields, which the single calls of the contract ignore, are refused here.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from oo_ml.api.bodies import answer, read
from oo_ml.api.decisions.batch_schemas import (
    CONTRACT,
    MAX_ITEMS,
    OF_POLICY,
    AnyRewardItem,
    AnyScoreItem,
    Batch,
    Item,
    PolicyRewardItem,
    PolicyScoreItem,
    Refusal,
    RewardBatch,
    RewardBatchAnswer,
    RewardDone,
    RewardItem,
    ScoreBatch,
    ScoreBatchAnswer,
    ScoreDone,
    ScoreItem,
    kind_of,
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
from oo_ml.api.policies import endpoints as policies
from oo_ml.api.schemas import Body
from oo_ml.domain.access import Scope
from oo_ml.domain.policies import LINUCB
from oo_ml.errors import InvalidRequestError, OoMlError, UnexpectedError, UnknownPolicyError
from oo_ml.services.decisions.decide import DecideCommand, decide
from oo_ml.services.decisions.learn import DecisionRewardCommand, RewardCommand, learn
from oo_ml.services.policies.catalogue import Assigned, PolicyCatalogue

router = APIRouter(tags=["decisions"], dependencies=[KNOWN_PARAMETERS_ONLY])

Command = TypeVar("Command")
Result = TypeVar("Result")
Done = TypeVar("Done", ScoreDone, RewardDone)

# With OO_ML_LANE_ONE_USER each item has a transaction of its own, which can fail alone.
_OF_ITS_OWN: Final = (*DATABASE, UnexpectedError)


@dataclass(frozen=True, slots=True)
class _Invalid:
    """An invalid item.

    Attributes:
        policy: the policy of an item with the body of /policies/{policy}. That call looks for its policy first.
    """

    refusal: Refusal
    policy: str | None


Items = Sequence[Item | _Invalid]


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
    """Decide for each item, in their order, as the score call of its policy does, in one transaction.

    A refused item has the error as its outcome; the others are decided. Only a body without `items`, or
    with more than 1,000, is a 422 as a whole. A body larger than OO_ML_MAX_BODY_BYTES is a 413: send several.
    """
    items = _items(await request.body(), ScoreBatch, {CONTRACT: ScoreItem, OF_POLICY: PolicyScoreItem})
    app, now = services(request), datetime.now(UTC)
    assigned = await _assign(items, app.policies)

    def command(item: AnyScoreItem, assigned: Assigned) -> DecideCommand:
        if isinstance(item, ScoreItem):
            return decide_command(item, item.policy, assigned, now)
        return policies.decide_command(item, assigned.policy, now)

    commands = [_command(item, one, command) for item, one in zip(items, assigned, strict=True)]
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
    """Learn from each item, in their order, as the reward call of its policy does, in one transaction.

    A refused item has the error as its outcome; the others are learned. Only a body without `items`, or
    with more than 1,000, is a 422 as a whole. A body larger than OO_ML_MAX_BODY_BYTES is a 413: send several.
    """
    items = _items(await request.body(), RewardBatch, {CONTRACT: RewardItem, OF_POLICY: PolicyRewardItem})
    app, now = services(request), datetime.now(UTC)
    assigned = await _assign(items, app.policies)

    def command(item: AnyRewardItem, assigned: Assigned) -> RewardCommand | DecisionRewardCommand:
        if isinstance(item, RewardItem):
            return reward_command(item, item.policy, assigned.policy, item.idempotency_key, now)
        return policies.reward_command(item, assigned.policy, item.idempotency_key, now)

    commands = [_command(item, one, command) for item, one in zip(items, assigned, strict=True)]
    outcomes = await _run(partial(app.together, learn), commands, lambda made: RewardDone(body=reward_answer(made)))
    return answer(RewardBatchAnswer(outcomes=outcomes))


def _items(body: bytes, batch: type[Batch[Item]], kinds: Mapping[str, type[Body]]) -> Items[Item]:
    """Return each item of a body, or its refusal; `kinds` are the models of items, by `kind_of`.

    Raises:
        RequestValidationError: it has no items, too many, or a field besides them.
    """
    try:
        return batch.model_validate_json(body, extra="forbid").items
    except ValidationError:
        found = _split_items(body)
    if found is not None:
        return [_item(item, text, kinds) for item, text in found]
    try:
        return read(batch, body).items
    except RequestValidationError as error:
        # Only the batch's own problems: a thousand items can have many thousands.
        own = [problem for problem in error.errors() if len(problem["loc"]) <= len(("body", "items"))]
        raise RequestValidationError(own) from None


def _split_items(body: bytes) -> list[tuple[Any, str]] | None:
    """Return each item of a batch, parsed and as JSON; None if the body is no batch.

    Pydantic's parser refuses the whole body for one lone surrogate, and Python's accepts it. Parsing apart refuses only
    the item with half an emoji.
    """
    try:
        match json.loads(body.decode()):
            case {"items": list(items), **others} if len(items) <= MAX_ITEMS and not others:
                return [(item, json.dumps(item)) for item in items]
    except (ValueError, RecursionError):
        pass
    return None


def _item(item: Any, text: str, kinds: Mapping[str, type[Body]]) -> Any:  # noqa: ANN401 - JSON, and one of `kinds`
    kind = kind_of(item)
    try:
        return read(kinds[kind], text)
    except RequestValidationError as error:
        return _Invalid(_refuse_fields(error), item["policy"] if kind == OF_POLICY else None)


def _command(
    item: object, assigned: Assigned | OoMlError | None, command: Callable[[Any, Assigned], Command]
) -> Command | Refusal:
    """Return the command of an item, or its refusal; `command` takes items of any kind in the batch."""
    if isinstance(assigned, OoMlError):
        return _refusal(assigned)
    if isinstance(item, _Invalid):
        return item.refusal
    try:
        return command(item, assigned)  # type: ignore[arg-type]
    except RequestValidationError as error:
        return _refuse_fields(error)
    except OoMlError as error:
        return _refusal(error)


async def _assign(
    items: Items[AnyScoreItem] | Items[AnyRewardItem], catalogue: PolicyCatalogue
) -> list[Assigned | OoMlError | None]:
    """Return the policy of each item, or the reason why it has none; None for an item that names none and is invalid.

    An item that names no policy is a call of /score or /reward: the traffic chooses the policy.
    """
    asked_at = time.monotonic()
    by_name: dict[str, Assigned | OoMlError] = {}
    found: list[Assigned | OoMlError | None] = []
    for item in items:
        try:
            if isinstance(item, ScoreItem | RewardItem) and "policy" not in item.model_fields_set:
                found.append(await catalogue.assign(item.user_id, LINUCB))
            elif item.policy is None:
                found.append(None)
            else:
                if item.policy not in by_name:
                    by_name[item.policy] = Assigned(await catalogue.find(item.policy, asked_at=asked_at))
                found.append(by_name[item.policy])
        except UnknownPolicyError as error:
            if item.policy is not None:
                by_name[item.policy] = error
            found.append(error)
    return found


def _refuse_fields(error: RequestValidationError) -> Refusal:
    return Refusal(status=422, error=problem_of_fields(error))


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
