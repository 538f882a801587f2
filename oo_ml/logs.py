"""Logging: one line an event, on standard error, as text or JSON. A line has the id of the request it belongs to.

A traceback has no messages of exceptions, because they may quote a user's data.
"""

import logging
import sys
import traceback
from contextvars import ContextVar
from typing import Any, Final

from oo_ml.setting_choices import LogFormat, LogLevel

# The id of the request that is being served; empty outside of requests, and in a transaction of several requests.
REQUEST_ID: Final = ContextVar("request_id", default="")
# Keys that a line of the access log has besides those of every line.
ACCESS_FIELDS: Final = ("method", "route", "status", "code", "ms", "key_id")
# They log every request or statement.
_CHATTY: Final = ("httpx", "httpcore", "alembic", "urllib3", "uvicorn.access")


def configure_logging(level: LogLevel, shape: LogFormat) -> None:
    """Log from `level` upwards; libraries that log every request or statement, from warnings upwards."""
    handler = logging.StreamHandler(sys.stderr)
    # structlog imports rich, which takes a fifth of a second: most commands would start half as fast.
    handler.setFormatter(_create_json_formatter() if shape is LogFormat.JSON else _TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


def format_trace(error: BaseException) -> str:
    """Return the tracebacks of an error and of its causes, the first cause first, without their messages."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        frames = "".join(traceback.format_tb(cause.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{type(cause).__qualname__}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n\n".join(reversed(parts))


class _TextFormatter(logging.Formatter):
    """Formatter of lines to be read on a terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's own name
        """Return the line without its traceback."""
        line = super().formatMessage(record)
        request_id = REQUEST_ID.get()
        return f"{line} [{request_id}]" if request_id else line

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - the base class's own name
        """Return the traceback."""
        return _format_exception(ei)


def _create_json_formatter() -> logging.Formatter:
    from structlog import processors, stdlib  # noqa: PLC0415 - see configure_logging

    return stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            processors.TimeStamper(fmt="iso", utc=True),
            stdlib.add_log_level,
            stdlib.add_logger_name,
            stdlib.ExtraAdder(ACCESS_FIELDS),
            _add_request_id,
            processors.ExceptionRenderer(_format_exception),
            processors.StackInfoRenderer(),
        ],
        processors=[stdlib.ProcessorFormatter.remove_processors_meta, processors.JSONRenderer()],
    )


def _add_request_id(_logger: object, _method: str, event: Any) -> Any:  # noqa: ANN401 - structlog's
    if request_id := REQUEST_ID.get():
        event["request_id"] = request_id
    return event


def _format_exception(exc_info: Any) -> str:  # noqa: ANN401 - logging types it in several ways
    error = exc_info[1]
    return "" if error is None else format_trace(error)
