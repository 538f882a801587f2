"""The calls that come most often, past what FastAPI does for all others.

For an endpoint that parses its body and writes its answer itself, middleware, routing and dependencies are two thirds
of the time (docs/performance.md). Here it is called by its path alone; what comes out is the same, an error too.
"""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from oo_ml.api.errors import EXPECTED, answer_to

Endpoint = Callable[[Request], Awaitable[Response]]


class Shortcut:
    """ASGI application: FastAPI's, but for some endpoints."""

    def __init__(self, app: FastAPI, endpoints: Mapping[str, Endpoint], max_body: int) -> None:
        """Wrap `app`.

        Args:
            app: what answers all else, and these endpoints in its OpenAPI document.
            endpoints: what is POSTed to, by its path.
            max_body: size of a body up to which they are called.
        """
        self._app = app
        self._endpoints = {path.encode(): endpoint for path, endpoint in endpoints.items()}
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call."""
        endpoint = self._endpoints.get(scope.get("raw_path") or b"")
        if endpoint is None or scope["method"] != "POST" or not self._is_small(scope):
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        try:
            response = await endpoint(Request(scope, receive))
        except EXPECTED as error:
            response = answer_to(error)
        await response(scope, receive, send)

    def _is_small(self, scope: Scope) -> bool:
        """Tell whether the length of the body was announced, in which case the server holds it to that, and fits."""
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        return length.isdigit() and int(length) <= self._max_body
