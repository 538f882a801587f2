"""The access log: one line a request, and one for each connection or request that the HTTP protocol refuses."""

import logging

from oo_ml.api.error_statuses import STATUSES
from oo_ml.api.exchanges import Exchange
from oo_ml.errors import OoMlError
from oo_ml.logs import REQUEST_ID

logger = logging.getLogger("oo_ml.access")


def log_exchange(exchange: Exchange) -> None:
    """Log a request that was answered; its status is null if the client left before."""
    ms = round(exchange.seconds * 1000, 3)
    logger.info(
        "%s %s %s in %s ms, key %s",
        exchange.method,
        exchange.route or "(no route)",
        exchange.status or "(no answer)",
        ms,
        exchange.key_id or "(none)",
        extra={
            "method": exchange.method,
            "route": exchange.route,
            "status": exchange.status,
            "ms": ms,
            "key_id": exchange.key_id,
        },
    )


def log_refusal(error: OoMlError, request_id: str) -> None:
    """Log the refusal of a connection, or of a request that did not arrive."""
    status = STATUSES[type(error)]
    # The protocol runs outside of requests.
    outside = REQUEST_ID.set(request_id)
    logger.info("refused: %s %s", status, error.code, extra={"status": status, "code": error.code})
    REQUEST_ID.reset(outside)
