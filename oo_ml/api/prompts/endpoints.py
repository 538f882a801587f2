"""Prompt versions: list, get, publish; and generate tips with them."""

from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated

import uuid_utils.compat as uuid_utils
from fastapi import APIRouter, Query, Request, Response

from oo_ml import errors
from oo_ml.api.access.scopes import action_of
from oo_ml.api.bodies import answer, page_of, parse
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.error_statuses import DATABASE
from oo_ml.api.openapi import documented
from oo_ml.api.paging import Paging
from oo_ml.api.prompts import schemas
from oo_ml.domain.access import Scope
from oo_ml.execution.outcomes import only
from oo_ml.services.access.audit_log import audited
from oo_ml.services.paging import PageCommand
from oo_ml.services.prompts import registry
from oo_ml.services.prompts.generate import GenerateCommand

router = APIRouter(prefix="/prompts", tags=["prompts"], dependencies=[KNOWN_PARAMETERS_ONLY])
# The contract's call ignores unknown parameters.
generate_router = APIRouter(tags=["generation"])


@router.get(
    "",
    summary="List the prompt versions",
    **documented("listPrompts", Scope.READ, gives=schemas.PromptsPage, raises=(errors.InvalidRequestError, *DATABASE)),
)
async def list_prompts(request: Request, paging: Annotated[Paging, Query()]) -> Response:
    """Return versions without their text, retired ones included, the oldest first."""
    [found] = await services(request).readers.run(
        registry.list_versions, [PageCommand(paging.limit, paging.cursor or 0)]
    )
    return answer(page_of(schemas.PromptsPage, found))


@router.get(
    "/{version}",
    summary="Get a prompt version",
    **documented(
        "getPrompt",
        Scope.READ,
        gives=schemas.PromptAnswer,
        raises=(errors.InvalidRequestError, errors.PromptVersionNotFoundError, *DATABASE),
    ),
)
async def show_prompt(request: Request, version: str) -> Response:
    """Return a version with its templates."""
    try:
        shown = only(await services(request).readers.run(registry.show, [version]))
    except errors.UnknownPromptVersionError as error:
        # In a body an unknown version is an invalid field (422); in a path it is a 404.
        raise errors.PromptVersionNotFoundError(error.message) from None
    return answer(schemas.PromptAnswer.model_validate(shown))


@router.post(
    "",
    summary="Publish a prompt version",
    **documented(
        "publishPrompt",
        Scope.REGISTRY,
        takes=schemas.PublishRequest,
        gives=schemas.PromptAnswer,
        raises=(
            errors.InvalidRequestError,
            errors.InvalidTemplateError,
            errors.PromptVersionExistsError,
            errors.ReservedPromptVersionError,
            *DATABASE,
        ),
        status=201,
    ),
)
async def publish_prompt(request: Request) -> Response:
    """Publish a new version. It never changes afterwards, so a template that cannot be rendered is refused here."""
    body = await parse(request, schemas.PublishRequest)
    draft = registry.draft(**body.model_dump(), published_at=datetime.now(UTC))
    publish = audited(registry.publish, action_of(request, "prompt.published"), attrgetter("version"))
    published = only(await services(request).writers.run(publish, [draft]))
    return answer(schemas.PromptAnswer.model_validate(published), 201)


@generate_router.post(
    "/generate",
    summary="Generate tips",
    **documented(
        "generate",
        Scope.DECIDE,
        takes=schemas.GenerateRequest,
        gives=schemas.GenerateAnswer,
        raises=(
            errors.InvalidRequestError,
            errors.UnknownPromptVersionError,
            errors.RetiredPromptVersionError,
            errors.GatewayError,
            errors.InvalidReplyError,
            errors.GatewayUnreachableError,
            *DATABASE,
        ),
    ),
)
async def generate_tips(request: Request) -> Response:
    """Ask the language model for `n` tips with a prompt version of the registry, and store its reply or its failure."""
    body = await parse(request, schemas.GenerateRequest)
    generated = await services(request).generate(
        GenerateCommand(
            user_id=body.user_id,
            generation_id=uuid_utils.uuid7(),
            created_at=datetime.now(UTC),
            context=body.context.model_dump(),
            n=body.n,
            prompt_version=body.prompt_version,
        ),
    )
    return answer(schemas.GenerateAnswer.model_validate(generated))
