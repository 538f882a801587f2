"""From an outcome to an answer: which status each error class gets. Nothing a caller sent is echoed in a 422."""

import logging
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oo_ml import errors
from oo_ml.api.bodies import answer
from oo_ml.api.schemas.base import FieldProblem, Problem
from oo_ml.errors import OoMlError, UnexpectedError

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS: Final = 1
EXPECTED: Final = (OoMlError, RequestValidationError, HTTPException)

_STATUS: Final[dict[type[OoMlError], int]] = {
    errors.UnavailableError: 503,
    errors.GatewayError: 502,
    errors.InvalidReplyError: 502,
    errors.NoCandidatesError: 422,
    errors.UnknownDecisionError: 404,
    errors.DecisionExistsError: 409,
    errors.DecisionTooOldError: 422,
    errors.OtherTipError: 409,
    errors.IdempotencyKeyReusedError: 409,
    errors.UnknownPromptVersionError: 422,
    errors.RetiredPromptVersionError: 422,
    errors.InvalidTemplateError: 422,
    errors.PromptVersionExistsError: 409,
}


def install(app: FastAPI) -> None:
    """Make every error an answer with a sentence and a code."""
    for cause in EXPECTED:
        app.exception_handler(cause)(_handle)


async def _handle(_: Request, error: Exception) -> Response:
    return answer_to(error)


def answer_to(error: Exception) -> Response:
    """Return what is answered to whoever caused one of EXPECTED."""
    match error:
        case OoMlError():
            response = answer(problem_of(error), status_of(error))
            if response.status_code == 503:  # noqa: PLR2004
                response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
            return response
        case RequestValidationError():
            return answer(problem_of_fields(error), 422)
        case HTTPException():
            # The framework's own refusals (404, 405, 413) get the same shape.
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
            response = answer(Problem(detail=error.detail, code=code), error.status_code)
            response.headers.update(error.headers or {})
            return response
    raise error


def status_of(error: OoMlError) -> int:
    """Return the status that `error` is answered with."""
    return next((_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS), 500)


def problem_of(error: OoMlError) -> Problem:
    """Return the body that tells of `error`."""
    return Problem(detail=error.message, code=error.code)


def problem_of_fields(error: RequestValidationError) -> Problem:
    """Return the body of the 422 that tells which fields are wrong."""
    # Where and why, never the value: an echoed NaN or lone surrogate can't be sent at all.
    fields = [FieldProblem(loc=list(wrong["loc"]), msg=wrong["msg"], type=wrong["type"]) for wrong in error.errors()]
    return Problem(detail=fields, code="invalid")


class Bugs:
    """ASGI middleware that turns an exception nobody expected into a 500 that tells nothing; the log has it all.

    Starlette's own handler for it raises the exception once more, and servers then reset the connection now and then.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on."""
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except ClientDisconnect:
            # Nobody is left to be answered, and nothing had begun: the body had not come in whole.
            return
        except Exception:
            if scope["type"] != "http" or started:
                raise
            # Not the whole path: it may name a person.
            logger.exception("%s /%s failed", scope["method"], scope["path"].split("/")[1])
            await answer(problem_of(UnexpectedError()), 500)(scope, receive, send)
