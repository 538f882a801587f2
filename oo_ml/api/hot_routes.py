"""The most frequent calls, routed by their path alone, past FastAPI (ADR 10).

A call about a policy has its name in the path, between two fixed segments.

These endpoints parse the body and write the answer themselves. For them, FastAPI's middleware, routing and dependencies
take two thirds of the time (docs/performance.md). Answers and errors are the same as through FastAPI.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from oo_ml.api.access.scopes import require
from oo_ml.api.errors import EXPECTED, answer_to
from oo_ml.api.exchanges import exchange_of
from oo_ml.api.heads import Head, head_of
from oo_ml.domain import access
from oo_ml.errors import ContentTooLargeError

Endpoint = Callable[[Request], Awaitable[Response]]


class _Found(NamedTuple):
    template: str
    endpoint: Endpoint
    parameters: dict[str, str]


class HotRoutes:
    """ASGI middleware that answers the hot routes, and refuses bodies that are announced too large."""

    def __init__(
        self,
        app: FastAPI,
        endpoints: Mapping[str, Endpoint],
        of_policies: Mapping[str, Endpoint],
        max_body: int,
    ) -> None:
        """Wrap `app`, which has the hot routes too.

        Args:
            app: answers all other calls.
            endpoints: are called by POST, by path.
            of_policies: are called by POST to /policies/{policy}/NAME, by NAME; the policy is a path parameter.
            max_body: in bytes.
        """
        self._app = app
        self._endpoints = endpoints
        self._of_policies = of_policies
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
        found = self._find(head.path, scope) if head.method == "POST" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        exchange_of(scope).route = found.template
        scope["app"] = self._app
        scope["path_params"] = found.parameters
        try:
            require(scope, access.Scope.DECIDE)
            response = await found.endpoint(Request(scope, receive))
        except EXPECTED as error:
            response = answer_to(error)
        await response(scope, receive, send)

    def _find(self, path: str, scope: Scope) -> _Found | None:
        if endpoint := self._endpoints.get(path):
            return _Found(path, endpoint, {})
        match path.split("/"):
            # FastAPI refuses unknown parameters, so it gets the calls that have any.
            case ["", "policies", policy, name] if policy and not scope["query_string"]:
                if endpoint := self._of_policies.get(name):
                    return _Found(f"/policies/{{policy}}/{name}", endpoint, {"policy": policy})
        return None


def _announced_length(head: Head) -> int | None:
    """Return the Content-Length of a request, which the server enforces; None if there is none."""
    length = head.headers.get(b"content-length", b"")
    return int(length) if length.isdigit() else None
