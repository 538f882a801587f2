"""The prompt registry over HTTP: list, show, publish."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from oo_ml.api.bodies import answer, documented, parse
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.errors import problem_of
from oo_ml.api.schemas.prompts import PromptAnswer, PromptsAnswer, PromptSummary, PublishRequest
from oo_ml.errors import UnknownPromptVersionError
from oo_ml.services import prompts
from oo_ml.services.outcomes import only

router = APIRouter(prefix="/prompts", tags=["prompts"], dependencies=[KNOWN_PARAMETERS_ONLY])

_UNAVAILABLE = "The database can't take it now; try again"


@router.get("", summary="List the prompt versions", **documented(None, PromptsAnswer, {503: _UNAVAILABLE}))
async def list_prompts(request: Request) -> Response:
    """Return every version without its text, retired ones included, the oldest first."""
    [listing] = await services(request).readers.run(prompts.listing, [None])
    return answer(PromptsAnswer(prompts=[PromptSummary.model_validate(prompt) for prompt in listing]))


@router.get(
    "/{version}",
    summary="Show a prompt version",
    **documented(None, PromptAnswer, {404: "No such version", 503: _UNAVAILABLE}),
)
async def show_prompt(request: Request, version: str) -> Response:
    """Return a version with its templates."""
    try:
        shown = only(await services(request).readers.run(prompts.show, [version]))
    except UnknownPromptVersionError as error:
        # In a body it is a mistake of the body's (422); here it is the thing that was asked for.
        return answer(problem_of(error), 404)
    return answer(PromptAnswer.model_validate(shown))


@router.post(
    "",
    summary="Publish a prompt version",
    **documented(
        PublishRequest,
        PromptAnswer,
        {409: "The name is taken, or means something else", 422: "A template can't be rendered", 503: _UNAVAILABLE},
        status=201,
    ),
)
async def publish_prompt(request: Request) -> Response:
    """Publish a new version. What is published never changes, so a template that can't be rendered is refused now."""
    body = await parse(request, PublishRequest)
    draft = prompts.draft(
        version=body.version,
        description=body.description,
        system_template=body.system_template,
        user_template=body.user_template,
        published_at=datetime.now(UTC),
    )
    published = only(await services(request).writers.run(prompts.publish, [draft]))
    return answer(PromptAnswer.model_validate(published), 201)
