"""POST /generate: ask the language model for tips."""

from datetime import UTC, datetime

import uuid_utils.compat as uuid_utils
from fastapi import APIRouter, Request, Response

from oo_ml.api.bodies import answer, parse
from oo_ml.api.dependencies import services
from oo_ml.api.openapi import documented
from oo_ml.api.prompts.generate_schemas import GenerateAnswer, GeneratedCandidate, GenerateRequest
from oo_ml.api.statuses import DATABASE
from oo_ml.errors import (
    GatewayError,
    GatewayUnreachableError,
    InvalidReplyError,
    InvalidRequestError,
    RetiredPromptVersionError,
    UnknownPromptVersionError,
)
from oo_ml.services.prompts.generate import GenerateCommand

router = APIRouter(tags=["generation"])


@router.post(
    "/generate",
    summary="Generate tips",
    **documented(
        "generate",
        takes=GenerateRequest,
        gives=GenerateAnswer,
        raises=(
            InvalidRequestError,
            UnknownPromptVersionError,
            RetiredPromptVersionError,
            GatewayError,
            InvalidReplyError,
            GatewayUnreachableError,
            *DATABASE,
        ),
    ),
)
async def generate_tips(request: Request) -> Response:
    """Ask the language model for `n` tips with a prompt version of the registry, and store its reply or its failure."""
    body = await parse(request, GenerateRequest)
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
    return answer(
        GenerateAnswer(
            candidates=[
                GeneratedCandidate(id=tip.id, content=tip.content, rationale=tip.rationale) for tip in generated.tips
            ],
            model=generated.model,
            prompt_version=generated.prompt_version,
            prompt_probability=generated.prompt_probability,
            prompt_tokens=generated.prompt_tokens,
            completion_tokens=generated.completion_tokens,
            generation_id=generated.generation_id,
        )
    )
