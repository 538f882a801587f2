"""The calls that come most often, past what FastAPI does for all others.

For an endpoint that parses its body and writes its answer itself, middleware, routing and dependencies are two thirds
of the time (docs/performance.md). Here it is called by its path alone; what comes out is the same, an error too.
"""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from oo_ml.api.errors import EXPECTED, answer_to
from oo_ml.errors import ContentTooLargeError

Endpoint = Callable[[Request], Awaitable[Response]]


class Shortcut:
    """ASGI application: FastAPI's, except for some endpoints and for bodies that are announced too large."""

    def __init__(self, app: FastAPI, endpoints: Mapping[str, Endpoint], max_body: int) -> None:
        """Wrap `app`.

        Args:
            app: what answers all else, and these endpoints in its OpenAPI document.
            endpoints: what is POSTed to, by its path.
            max_body: bytes of the largest body that is read.
        """
        self._app = app
        self._endpoints = {path.encode(): endpoint for path, endpoint in endpoints.items()}
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call."""
        length = _announced_length(scope)
        if length is None:
            # FastAPI counts the bytes of such a body.
            await self._app(scope, receive, send)
            return
        if length > self._max_body:
            # FastAPI refuses it too, but in plain text.
            await answer_to(ContentTooLargeError())(scope, receive, send)
            return
        endpoint = self._endpoints.get(scope.get("raw_path") or b"")
        if endpoint is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        try:
            response = await endpoint(Request(scope, receive))
        except EXPECTED as error:
            response = answer_to(error)
        await response(scope, receive, send)


def _announced_length(scope: Scope) -> int | None:
    """Return the Content-Length of a request, which the server enforces; None if there is none."""
    length = next((value for name, value in scope.get("headers", ()) if name == b"content-length"), b"")
    return int(length) if length.isdigit() else None
