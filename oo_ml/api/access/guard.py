"""The guard in front of every call, the hot ones included: host, origin and type of the body, key, request id."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oo_ml.api.access.browsers import BrowserChecks
from oo_ml.api.access.heads import Head
from oo_ml.api.access.request_ids import HEADER, request_id
from oo_ml.api.access.scopes import remember, require
from oo_ml.api.errors import answer_to
from oo_ml.domain import access
from oo_ml.domain.access import OPEN, Caller
from oo_ml.errors import OoMlError, UnauthenticatedError
from oo_ml.services.access.keys import KeyRing

# Balancers and orchestrators call them by address, without a key.
PROBES: Final = frozenset({"/health", "/livez", "/readyz"})
# Paths of routes that can't declare a scope: files, and the pages that FastAPI makes.
_PAGES: Final = ("/dashboard", "/docs", "/openapi.json", "/static-offline-docs")


class Guard:
    """ASGI middleware that lets a request through, with its caller and id attached, or answers with the refusal."""

    def __init__(self, app: ASGIApp, checks: BrowserChecks, keys: KeyRing | None) -> None:
        """Guard `app`.

        Args:
            app: the calls.
            checks: the checks of browsers' requests.
            keys: the API keys; None: calls need none.
        """
        self._app = app
        self._checks = checks
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            head = Head.of(scope)
        except OoMlError as error:
            await answer_to(error)(scope, receive, send)
            return
        identifier = request_id(head)
        header = (HEADER, identifier.encode("ascii"))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            caller = await self._admit(head)
        except OoMlError as error:
            await answer_to(error)(scope, receive, send_with_id)
            return
        remember(scope, caller, identifier)
        try:
            if head.path.startswith(_PAGES):
                require(scope, access.Scope.READ)
        except OoMlError as error:
            await answer_to(error)(scope, receive, send_with_id)
            return
        await self._app(scope, receive, send_with_id)

    async def _admit(self, head: Head) -> Caller:
        """Return the caller of a request.

        Raises:
            OoMlError: the request is refused, or the keys can't be read now.
        """
        is_probe = head.path in PROBES
        if not is_probe:
            self._checks.check_host(head)
        self._checks.check_origin(head)
        caller = OPEN if self._keys is None or is_probe else await self._authenticate(self._keys, head)
        self._checks.check_body(head)
        return caller

    @staticmethod
    async def _authenticate(keys: KeyRing, head: Head) -> Caller:
        scheme, _, token = (head.get(b"authorization") or "").partition(" ")
        caller = await keys.find(token.strip()) if scheme.lower() == "bearer" and token else None
        if caller is None:
            raise UnauthenticatedError
        return caller
