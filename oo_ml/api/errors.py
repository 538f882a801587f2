"""Answers to errors: every error is a Problem. A 422 never repeats a value that the client sent."""

import logging
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from oo_ml.api.error_statuses import RETRY_AFTER_SECONDS, STATUSES
from oo_ml.api.exchanges import exchange_of
from oo_ml.api.schemas import FieldProblem, Problem
from oo_ml.errors import (
    ContentTooLargeError,
    GatewayError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    OoMlError,
    RateLimitedError,
    UnexpectedError,
)
from oo_ml.logs import REQUEST_ID

logger = logging.getLogger(__name__)

EXPECTED: Final = (OoMlError, RequestValidationError, HTTPException)

# The framework refuses these by itself, with phrases that differ between releases of Python.
_FRAMEWORK: Final = {STATUSES[error]: error for error in (NotFoundError, MethodNotAllowedError, ContentTooLargeError)}

# Methods that a route can have.
_METHODS: Final = ("DELETE", "GET", "HEAD", "POST", "PUT")


def install(app: FastAPI) -> None:
    """Answer every error with a Problem."""
    for cause in EXPECTED:
        app.exception_handler(cause)(_handle)
    # Starlette's own handler of unexpected errors, around this one, answers in plain text and raises them again.
    app.add_middleware(UnexpectedErrors)


async def _handle(request: Request, error: Exception) -> Response:
    response = answer_to(error)
    # A path with files is routed by any method, and its header is right.
    if "Allow" in response.headers and not _is_routed(request, request.method):
        # The framework names only the methods of the first route with this path.
        response.headers["Allow"] = ", ".join(method for method in _METHODS if _is_routed(request, method))
    return response


def _is_routed(request: Request, method: str) -> bool:
    # A path with files has changed the root path.
    root_path = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    scope = {**request.scope, "root_path": root_path, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


class _ProblemResponse(Response):
    """Answer to an error. It notes the code for those who observe the request."""

    media_type = "application/json"

    def __init__(self, problem: Problem, status: int) -> None:
        super().__init__(problem.model_dump_json(), status)
        self._code = problem.code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        exchange_of(scope).error_code = self._code
        await super().__call__(scope, receive, send)


def answer_to(error: Exception) -> Response:
    """Return the answer to the request that caused one of EXPECTED; raise any other error, for UnexpectedErrors."""
    match error:
        case OoMlError() if status := STATUSES.get(type(error)):
            response: Response = _ProblemResponse(problem_of(error), status)
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
            if isinstance(error, RateLimitedError | GatewayError) and error.retry_after is not None:
                response.headers["Retry-After"] = str(error.retry_after)
            if status == HTTPStatus.UNAUTHORIZED:
                response.headers["WWW-Authenticate"] = "Bearer"
            return response
        case RequestValidationError():
            return _ProblemResponse(problem_of_fields(error), 422)
        case HTTPException(status_code=status) if status in _FRAMEWORK:
            response = answer_to(_FRAMEWORK[status]())
            response.headers.update(error.headers or {})
            return response
    raise error


def problem_of(error: OoMlError) -> Problem:
    """Return the body for `error`."""
    return Problem(detail=error.message, code=error.code, request_id=REQUEST_ID.get())


def problem_of_fields(error: RequestValidationError) -> Problem:
    """Return the body of a 422, which names the invalid fields."""
    # Place and reason, never the value: a NaN or a lone surrogate could not be sent as JSON.
    fields = [FieldProblem(loc=list(wrong["loc"]), msg=wrong["msg"], type=wrong["type"]) for wrong in error.errors()]
    return Problem(detail=fields, code=InvalidRequestError.code, request_id=REQUEST_ID.get())


class UnexpectedErrors:
    """ASGI middleware that turns an unexpected exception into a 500 without details; the log has the details."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on."""
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:
            # The client disconnected before its body had arrived, so no command has begun.
            return
        except Exception:
            if scope["type"] != "http" or (exchange := exchange_of(scope)).status is not None:
                raise
            # Not the path: it may name a user.
            logger.exception("%s %s failed", exchange.method, exchange.route or "(no route)")
            await answer_to(UnexpectedError())(scope, receive, send)
