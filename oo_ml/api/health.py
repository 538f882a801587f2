"""Probes: /health as the contract has it, /livez for the process, /readyz for whether calls should be sent here."""

from fastapi import APIRouter, Request, Response

from oo_ml.api.bodies import answer, documented
from oo_ml.api.dependencies import services
from oo_ml.api.schemas.base import Ok
from oo_ml.services.outcomes import only
from oo_ml.services.startup import ready

router = APIRouter(tags=["probes"])


@router.get("/health", summary="Is it up?", **documented(None, Ok, {}))
@router.get("/livez", summary="Is the process alive?", **documented(None, Ok, {}))
async def alive() -> Response:
    """Answer without touching the database."""
    return answer(Ok())


@router.get(
    "/readyz", summary="Can it take calls?", **documented(None, Ok, {503: "The database is away or not migrated"})
)
async def readiness(request: Request) -> Response:
    """Answer 200 when the database answers and its schema is that of this release or a newer one."""
    only(await services(request).readers.run(ready, [None]))
    return answer(Ok())
