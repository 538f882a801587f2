"""Policies: list, get and publish; choose by a published policy, reward it, and read what it knows of a user."""

from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Final

import uuid_utils.compat as uuid_utils
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from oo_ml import definitions, errors
from oo_ml.api.access.scopes import action_of
from oo_ml.api.bodies import answer, page_of, parse, sorted_digest
from oo_ml.api.decisions.endpoints import (
    REWARD_REFUSALS,
    SCORE_REFUSALS,
    IdempotencyKeyHeader,
    check_idempotency_key,
    reward_answer,
    score_answer,
)
from oo_ml.api.decisions.schemas import RewardAnswer, ScoreAnswer
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.error_statuses import DATABASE
from oo_ml.api.openapi import documented
from oo_ml.api.paging import Paging
from oo_ml.api.paths import REFUSALS, UserIdInPath
from oo_ml.api.policies import schemas
from oo_ml.api.policies.raw_fields import check_fields, check_fields_of_reward
from oo_ml.domain.access import Scope
from oo_ml.domain.policies import Policy
from oo_ml.execution.outcomes import only
from oo_ml.services.access.audit_log import audited
from oo_ml.services.decisions.decide import Candidate, DecideCommand, decide
from oo_ml.services.decisions.learn import DecisionRewardCommand, IdempotencyKey, RewardCommand, learn
from oo_ml.services.paging import PageCommand
from oo_ml.services.policies import priors, registry
from oo_ml.services.policies.compiled import compile_row, rules_of
from oo_ml.services.users.stats import StatsCommand, read_stats

router = APIRouter(tags=["policies"], dependencies=[KNOWN_PARAMETERS_ONLY])

PolicyInPath = Annotated[str, Path(description="Name of a published policy", examples=["articles-v1"])]

_JSON_SCHEMA: Final = schemas.DefinitionSchema.model_validate(definitions.json_schema())


@router.get(
    "/policies",
    summary="List the policies",
    **documented(
        "listPolicies", Scope.READ, gives=schemas.PoliciesPage, raises=(errors.InvalidRequestError, *DATABASE)
    ),
)
async def list_policies(request: Request, paging: Annotated[Paging, Query()]) -> Response:
    """Return policies without their definitions, retired ones included, the oldest first."""
    [found] = await services(request).readers.run(
        registry.list_policies, [PageCommand(paging.limit, paging.cursor or 0)]
    )
    return answer(page_of(schemas.PoliciesPage, found))


@router.get(
    "/policies/{policy}",
    summary="Get a policy",
    **documented(
        "getPolicy",
        Scope.READ,
        gives=schemas.PolicyAnswer,
        raises=(errors.InvalidRequestError, errors.UnknownPolicyError, errors.UnreadablePolicyError, *DATABASE),
    ),
)
async def show_policy(request: Request, policy: PolicyInPath) -> Response:
    """Return a policy with its definition, the names of its features, and the rule in effect."""
    row = only(await services(request).readers.run(registry.show, [policy]))
    return answer(_policy_answer(request, row))


@router.post(
    "/policies",
    summary="Publish a policy",
    **documented(
        "publishPolicy",
        Scope.REGISTRY,
        takes=schemas.PublishPolicyRequest,
        gives=schemas.PolicyAnswer,
        raises=(errors.InvalidRequestError, errors.PolicyExistsError, errors.ReservedPolicyNameError, *DATABASE),
        status=201,
    ),
)
async def publish_policy(request: Request) -> Response:
    """Publish a new policy. It never changes afterwards, so a definition that cannot work is refused here."""
    body = await parse(request, schemas.PublishPolicyRequest)
    command = registry.PublishCommand(body.policy, body.description, body.definition, datetime.now(UTC))
    publish = audited(registry.publish, action_of(request, "policy.published"), attrgetter("policy"))
    try:
        row = only(await services(request).writers.run(publish, [command]))
    except errors.InvalidDefinitionError as error:
        raise RequestValidationError(
            [
                {"loc": ("body", "definition", *place), "msg": problem, "type": "definition"}
                for place, problem in error.problems
            ]
        ) from None
    return answer(_policy_answer(request, row), 201)


@router.get(
    "/definition-schema",
    summary="Get the JSON Schema of definitions",
    **documented(
        "getDefinitionSchema", Scope.READ, gives=schemas.DefinitionSchema, raises=(errors.InvalidRequestError,)
    ),
)
async def definition_schema() -> Response:
    """Return the JSON Schema of the definition of a policy, for editors and generators.

    Publishing checks more, such as the number of features and the names of inputs.
    """
    return answer(_JSON_SCHEMA)


@router.post(
    "/policies/{policy}/score",
    summary="Choose by a policy",
    **documented(
        "scorePolicy",
        Scope.DECIDE,
        takes=schemas.PolicyScoreRequest,
        gives=ScoreAnswer,
        raises=(*SCORE_REFUSALS, errors.UnknownPolicyError, *DATABASE),
    ),
)
async def score(request: Request, policy: PolicyInPath) -> Response:
    """Choose one of the candidates by a published policy, and store the decision.

    A field that the definition needs and the call lacks is a 422 that names its place. Fields that the definition does
    not name are kept with the decision, and change nothing.
    """
    app = services(request)
    found = await app.policies.find(policy)
    command = decide_command(await parse(request, schemas.PolicyScoreRequest), found, datetime.now(UTC))
    return answer(score_answer(await app.lanes.run(decide, command.user_id, command)))


@router.post(
    "/policies/{policy}/reward",
    summary="Reward a policy",
    **documented(
        "rewardPolicy",
        Scope.DECIDE,
        takes=schemas.PolicyRewardRequest,
        gives=RewardAnswer,
        raises=(*REWARD_REFUSALS, errors.UnknownPolicyError, *DATABASE),
    ),
)
async def reward(request: Request, policy: PolicyInPath, idempotency_key: IdempotencyKeyHeader = None) -> Response:
    """Add x x^T to A and reward times x to b of the user and the policy. The user's next decision uses it.

    With decision_id, x and the policy are those of the decision, whatever the policy in the path, and a second reward
    for it changes nothing. A retired policy learns too.
    """
    app = services(request)
    found = await app.policies.find(policy)
    body = await parse(request, schemas.PolicyRewardRequest)
    check_idempotency_key(idempotency_key)
    command = reward_command(body, found, idempotency_key, datetime.now(UTC))
    return answer(reward_answer(await app.lanes.run(learn, command.user_id, command)))


@router.get(
    "/policies/{policy}/priors",
    summary="List the versions of a prior",
    **documented(
        "listPriors",
        Scope.READ,
        gives=schemas.PriorsPage,
        raises=(errors.InvalidRequestError, errors.UnknownPolicyError, *DATABASE),
    ),
)
async def list_priors(request: Request, policy: PolicyInPath, paging: Annotated[Paging, Query()]) -> Response:
    """Return the versions of the prior from which the users of a policy start, the latest first.

    A policy that is not pooled has none. OO_ML_PRIOR_RETENTION_DAYS says how long old ones stay.
    """
    command = priors.PriorsCommand(policy, PageCommand(paging.limit, paging.cursor or 0))
    found = only(await services(request).readers.run(priors.list_priors, [command]))
    return answer(page_of(schemas.PriorsPage, found))


@router.get(
    "/policies/{policy}/users/{user_id:path}",
    summary="Get what a policy knows of a user",
    **documented(
        "getPolicyUser",
        Scope.READ,
        gives=schemas.PolicyUserAnswer,
        raises=(errors.UnknownPolicyError, errors.UnreadablePolicyError, *REFUSALS),
    ),
)
async def policy_user(request: Request, policy: PolicyInPath, user_id: UserIdInPath) -> Response:
    """Return counters and theta with its intervals; for an unknown user zeros, or those of the prior."""
    app = services(request)
    command = StatsCommand(user_id, await app.policies.find(policy), datetime.now(UTC))
    [found] = await app.readers.run(read_stats, [command])
    users = (
        [None] * len(found.theta)
        if found.population is None
        else [schemas.UsersRange(estimate=estimate, low=low, high=high) for estimate, low, high in found.population]
    )
    rows = zip(found.labels, found.theta, found.intervals, users, strict=True)
    theta = [
        schemas.Coefficient(label=label, estimate=estimate, low=low, high=high, population=population)
        for label, estimate, (low, high), population in rows
    ]
    rest = {name: getattr(found, name) for name in schemas.PolicyUserAnswer.model_fields if name != "theta"}
    return answer(schemas.PolicyUserAnswer(theta=theta, **rest))


def decide_command(body: schemas.PolicyScoreRequest, policy: Policy, decided_at: datetime) -> DecideCommand:
    """Return the command of a body for a policy.

    Raises:
        NoCandidatesError: the body has no candidates.
        RequestValidationError: the policy can't read a field.
    """
    if not body.candidates:
        raise errors.NoCandidatesError
    check_fields(policy, body.context, [one.features for one in body.candidates])
    return DecideCommand(
        user_id=body.user_id,
        policy=policy,
        decision_id=body.decision_id or uuid_utils.uuid7(),
        decided_at=decided_at,
        context=body.context,
        candidates=[
            Candidate(one.id, one.features, content=one.content, prompt_version=one.prompt_version)
            for one in body.candidates
        ],
        request_digest=sorted_digest(body, policy.name) if body.decision_id is not None else None,
    )


def reward_command(
    body: schemas.PolicyRewardRequest, policy: Policy, idempotency_key: str | None, received_at: datetime
) -> RewardCommand | DecisionRewardCommand:
    """Return the command of a body for a policy.

    Raises:
        RequestValidationError: the policy can't read a field, and the body names no decision.
    """
    key = None if idempotency_key is None else IdempotencyKey(idempotency_key, sorted_digest(body, policy.name))
    if body.decision_id is not None:
        return DecisionRewardCommand(body.user_id, body.decision_id, body.tip_id, body.reward, received_at, key)
    check_fields_of_reward(policy, body.context, body.features)
    return RewardCommand(
        user_id=body.user_id,
        policy=policy,
        tip_id=body.tip_id,
        reward=body.reward,
        received_at=received_at,
        context=body.context,
        features=body.features,
        idempotency_key=key,
    )


def _policy_answer(request: Request, row: registry.PolicyRow) -> schemas.PolicyAnswer:
    policy = compile_row(row, rules_of(services(request).settings))
    rest = {name: getattr(row, name) for name in schemas.PolicyAnswer.model_fields if hasattr(row, name)}
    return schemas.PolicyAnswer(
        labels=list(policy.features.labels), rule=schemas.EffectiveRule.model_validate(policy.rule), **rest
    )
