"""User ids in paths: any id that a body may carry can be named in a URL, a slash in it included.

Servers decode %2F before routing, so `/stats/egreedy%2Fada` (the user `egreedy/ada`) would look like
`/stats/egreedy/ada` (the user `ada`). Here routing sees the path as the client sent it, and handlers
decode the id afterwards.
"""

from typing import Annotated, Any, Final
from urllib.parse import quote, unquote_to_bytes

from fastapi import Path
from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.types import ASGIApp, Receive, Scope, Send

from oo_ml.api.error_statuses import DATABASE
from oo_ml.api.exchanges import exchange_of
from oo_ml.api.fields import UserId
from oo_ml.errors import InvalidRequestError, OoMlError


def _decode(encoded: str) -> str:
    try:
        return unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise PydanticCustomError("string_unicode", "must be UTF-8, percent-encoded") from None


_SAID: Final[dict[str, Any]] = {
    "description": "The user's id; percent-encode it, slashes too",
    "examples": ["ada", "team/ada"],
}
UserIdInPath = Annotated[UserId, BeforeValidator(_decode), WithJsonSchema({"type": "string", **_SAID}), Path(**_SAID)]

# Refusals of a call that has a user id in its path as its only input.
REFUSALS: Final[tuple[type[OoMlError], ...]] = (InvalidRequestError, *DATABASE)


class EncodedPath:
    """ASGI middleware that routes by the path as it was sent, still percent-encoded."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on with its encoded path (ADR 3)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        raw = scope.get("raw_path")
        routed = {**scope, "path": raw.decode("latin-1") if raw else quote(scope["path"])}
        try:
            await self.app(routed, receive, send)
        finally:
            if route := routed.get("route"):
                # Without the converter that the path has: {user_id:path}.
                exchange_of(scope).route = route.path_format
