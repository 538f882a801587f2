"""Probes: /health of the contract, /livez for the process, /readyz for load balancers."""

from fastapi import APIRouter, Request, Response

from oo_ml.api.bodies import answer
from oo_ml.api.dependencies import services
from oo_ml.api.error_statuses import DATABASE
from oo_ml.api.openapi import documented
from oo_ml.api.schemas import Ok
from oo_ml.api.server_state import DRAINING
from oo_ml.errors import DrainingError, UnsuitableDatabaseError

router = APIRouter(tags=["probes"])


@router.head("/health", include_in_schema=False)
@router.get("/health", summary="Check that the service is up", **documented("getHealth", None, gives=Ok))
@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Check that the process is alive", **documented("getLiveness", None, gives=Ok))
async def alive() -> Response:
    """Answer without touching the database."""
    return answer(Ok())


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Check that calls can be served",
    **documented("getReadiness", None, gives=Ok, raises=(*DATABASE, UnsuitableDatabaseError, DrainingError)),
)
async def readiness(request: Request) -> Response:
    """Answer 200 if the database answers and has the schema of this release, or a newer one.

    503 from a signal to stop until the service ends (OO_ML_DRAIN).
    """
    if request.scope["state"].get(DRAINING):
        raise DrainingError
    await services(request).check_readiness()
    return answer(Ok())
