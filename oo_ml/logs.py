"""Logging: one line an event, on standard error."""

import logging

from oo_ml.settings import LogLevel


def configure_logging(level: LogLevel) -> None:
    """Log from `level` upwards; libraries that log every request or statement, from warnings upwards."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=level.upper(), force=True)
    for chatty in ("httpx", "httpcore", "alembic", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
