"""The most frequent calls, routed by their path alone, past FastAPI (ADR 10).

These endpoints parse the body and write the answer themselves. For them, FastAPI's middleware, routing and dependencies
take two thirds of the time (docs/performance.md). Answers and errors are the same as through FastAPI.
"""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from oo_ml.api.access.scopes import require
from oo_ml.api.errors import EXPECTED, answer_to
from oo_ml.api.exchanges import exchange_of
from oo_ml.api.heads import Head, head_of
from oo_ml.domain import access
from oo_ml.errors import ContentTooLargeError

Endpoint = Callable[[Request], Awaitable[Response]]


class HotRoutes:
    """ASGI middleware that answers the hot routes, and refuses bodies that are announced too large."""

    def __init__(self, app: FastAPI, endpoints: Mapping[str, Endpoint], max_body: int) -> None:
        """Wrap `app`, which has the hot routes too; `endpoints` are called by POST, by path; `max_body` is in bytes."""
        self._app = app
        self._endpoints = endpoints
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a hot route, or pass the call on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = head_of(scope)
        length = _announced_length(head)
        if length is None:
            # FastAPI counts the bytes of such a body.
            await self._app(scope, receive, send)
            return
        if length > self._max_body:
            # FastAPI would refuse it in plain text.
            await answer_to(ContentTooLargeError())(scope, receive, send)
            return
        endpoint = self._endpoints.get(head.path)
        if endpoint is None or head.method != "POST":
            await self._app(scope, receive, send)
            return
        exchange_of(scope).route = head.path
        scope["app"] = self._app
        try:
            require(scope, access.Scope.DECIDE)
            response = await endpoint(Request(scope, receive))
        except EXPECTED as error:
            response = answer_to(error)
        await response(scope, receive, send)


def _announced_length(head: Head) -> int | None:
    """Return the Content-Length of a request, which the server enforces; None if there is none."""
    length = head.headers.get(b"content-length", b"")
    return int(length) if length.isdigit() else None
