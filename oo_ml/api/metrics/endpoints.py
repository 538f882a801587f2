"""/metrics, which Prometheus scrapes."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from oo_ml.api.access.guard import METRICS
from oo_ml.api.dependencies import services
from oo_ml.api.openapi import documented
from oo_ml.domain.access import Scope

router = APIRouter(tags=["metrics"])

_TEXT: Final[dict[str, Any]] = {
    "description": "The metrics in the text format of Prometheus. docs/reference/metrics.md lists them.",
    "content": {
        CONTENT_TYPE_PLAIN_0_0_4: {
            "schema": {"type": "string"},
            "example": "# TYPE oo_ml_decisions_total counter\n"
            'oo_ml_decisions_total{explored="false",policy="linucb-v1"} 17.0\n',
        }
    },
}


@router.get(
    METRICS,
    summary="Read the metrics",
    response_class=Response,
    **documented("getMetrics", Scope.METRICS, gives=_TEXT),
)
async def metrics(request: Request) -> Response:
    """Return the metrics of all processes of this service. Without the database, those that need it are the last read.

    A key that was good when the keys were last read is accepted while the database does not answer.
    """
    return Response(await services(request).exposition.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
