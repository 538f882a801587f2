"""POST /generate: ask the language model for tips."""

from datetime import UTC, datetime

import uuid_utils.compat as uuid_utils
from fastapi import APIRouter, Request, Response

from oo_ml.api.bodies import answer, documented, parse
from oo_ml.api.dependencies import services
from oo_ml.api.schemas.generate import GenerateAnswer, GeneratedCandidate, GenerateRequest
from oo_ml.services.generate import GenerateCommand, generate

router = APIRouter(tags=["generation"])

_PROBLEMS = {
    422: "Unknown prompt_version, or a field is out of range",
    502: "The gateway answered with an error, or the model never gave the JSON asked for",
    503: "The gateway or the database can't be reached; try again",
}


@router.post("/generate", summary="Generate tips", **documented(GenerateRequest, GenerateAnswer, _PROBLEMS))
async def generate_tips(request: Request) -> Response:
    """Ask for `n` tips with a prompt version of the registry; what comes back is stored, failures included."""
    body = await parse(request, GenerateRequest)
    generated = await generate(
        services(request),
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
        ),
        exclude_none=True,
    )
