"""Probes: /health of the contract, /livez for the process, /readyz for load balancers."""

from fastapi import APIRouter, Request, Response

from oo_ml.api.bodies import answer
from oo_ml.api.dependencies import services
from oo_ml.api.error_statuses import DATABASE
from oo_ml.api.openapi import documented
from oo_ml.api.schemas import Ok
from oo_ml.errors import UnsuitableDatabaseError
from oo_ml.execution.outcomes import only
from oo_ml.services.container import ready

router = APIRouter(tags=["probes"])


@router.get("/health", summary="Check that the service is up", **documented("getHealth", gives=Ok))
@router.get("/livez", summary="Check that the process is alive", **documented("getLiveness", gives=Ok))
async def alive() -> Response:
    """Answer without touching the database."""
    return answer(Ok())


@router.get(
    "/readyz",
    summary="Check that calls can be served",
    **documented("getReadiness", gives=Ok, raises=(*DATABASE, UnsuitableDatabaseError)),
)
async def readiness(request: Request) -> Response:
    """Answer 200 if the database answers and has the schema of this release, or a newer one."""
    only(await services(request).readers.run(ready, [None]))
    return answer(Ok())
