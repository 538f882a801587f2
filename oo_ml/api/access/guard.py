"""The guard in front of every call, the hot ones included: host, origin and type of the body, key."""

from collections.abc import Awaitable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oo_ml.api.access.browsers import BrowserChecks
from oo_ml.api.access.rate_limits import RateLimit
from oo_ml.api.access.scopes import remember, require
from oo_ml.api.errors import answer_to
from oo_ml.api.heads import Head, head_of
from oo_ml.dashboard.sessions import Sessions
from oo_ml.dashboard.sign_in import SIGN_IN, SIGN_OUT, sign_in_page
from oo_ml.domain import access
from oo_ml.domain.access import OPEN, STRANGER, Caller
from oo_ml.errors import MalformedRequestError, OoMlError, UnauthenticatedError
from oo_ml.services.access.keys import KeyRing

# Balancers and orchestrators call them by address, without a key.
PROBES: Final = frozenset({"/health", "/livez", "/readyz"})
# While the database is away, metrics tell so: this call accepts the keys that were last read.
METRICS: Final = "/metrics"
# Paths of routes that can't declare a scope: files, and the pages that FastAPI makes.
_PAGES: Final = ("/dashboard", "/docs", "/openapi.json", "/static-offline-docs")
# Instead of these, a browser without a session gets the page that asks for a key.
_SIGN_IN_FIRST: Final = frozenset({"/dashboard", "/dashboard/", "/dashboard/user", SIGN_OUT, "/docs"})

# Access depends on these. A proxy and this service could each obey another one of two.
_SINGLE: Final = frozenset(
    {b"host", b"authorization", b"content-type", b"content-encoding", b"origin", b"sec-fetch-site"}
)

_Headers = list[tuple[bytes, bytes]]


class Guard:
    """ASGI middleware that lets a request through, with its caller attached, or answers with the refusal."""

    def __init__(
        self, app: ASGIApp, checks: BrowserChecks, keys: KeyRing | None, sessions: Sessions, limit: RateLimit | None
    ) -> None:
        """Guard `app`.

        Args:
            app: the calls.
            checks: the checks of browsers' requests.
            keys: the API keys; None: calls need none.
            sessions: the sessions of the dashboard.
            limit: the calls that each key may make; None: any number.
        """
        self._app = app
        self._checks = checks
        self._keys = keys
        self._sessions = sessions
        self._limit = limit

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Check a request.

        A request that is open or has a known key waits for nothing. So this is no coroutine, which would cost more than
        the checks.
        """
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        head = head_of(scope)
        try:
            self._check_sender(head)
            caller = self._find_known(head)
        except OoMlError as error:
            return answer_to(error)(scope, receive, send)
        if caller is None:
            return self._authenticate(head, scope, receive, send)
        return self._let_in(caller, head, scope)(scope, receive, send)

    def _check_sender(self, head: Head) -> None:
        """Check the headers that no caller may repeat, the host, and the origin.

        Raises:
            OoMlError: the request is refused.
        """
        if not _SINGLE.isdisjoint(head.repeated):
            raise MalformedRequestError
        if head.path not in PROBES:
            self._checks.check_host(head)
        self._checks.check_origin(head)

    def _find_known(self, head: Head) -> Caller | None:
        """Return the caller, None if it takes time to find it, or to count its calls."""
        if head.path == SIGN_IN and head.method == "POST":
            # A form, sent by a client that has no session yet.
            return STRANGER
        if self._keys is None or head.path in PROBES:
            return OPEN
        token = _token(head)
        return None if self._limit is not None or token is None else self._keys.find_known(token)

    def _let_in(self, caller: Caller, head: Head, scope: Scope) -> ASGIApp:
        """Attach the caller to the request; return the calls, or the refusal."""
        try:
            remember(scope, caller)
            # A stranger sends the form of the sign-in page.
            if caller is not STRANGER:
                self._checks.check_body(head)
            if head.path.startswith(_PAGES) and head.path != SIGN_IN:
                require(scope, access.Scope.READ)
        except OoMlError as error:
            return answer_to(error)
        return self._app

    async def _authenticate(self, head: Head, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the caller by its key or session, then answer."""
        added: _Headers = []
        app: ASGIApp
        try:
            caller, renewal = await self._find(head, scope)
            # One view of the dashboard loads dozens of files.
            if self._limit is not None and not head.path.startswith(_PAGES):
                await self._limit.count(caller)
            app, added = self._let_in(caller, head, scope), renewal
        except UnauthenticatedError as error:
            app = sign_in_page(scope.get("root_path", "")) if head.path in _SIGN_IN_FIRST else answer_to(error)
        except OoMlError as error:
            app = answer_to(error)
        await app(scope, receive, _send_with(added, send) if added else send)

    async def _find(self, head: Head, scope: Scope) -> tuple[Caller, _Headers]:
        """Return the caller of a request, and headers for the answer: the cookie of a session that goes on.

        Raises:
            UnauthenticatedError: there is neither a key nor a session, or it is not valid.
            UnavailableError: the keys can't be read now.
        """
        assert self._keys is not None  # noqa: S101 - without keys every caller is known
        if b"authorization" not in head.headers:
            return await self._resume_session(self._keys, head, scope)
        token = _token(head)
        caller = None if token is None else await self._keys.find(token, or_last_read=head.path == METRICS)
        if caller is None:
            raise UnauthenticatedError
        return caller, []

    async def _resume_session(self, keys: KeyRing, head: Head, scope: Scope) -> tuple[Caller, _Headers]:
        """Admit a session. It may read and nothing else, whatever the scopes of its key are."""
        session = self._sessions.read(head.get(b"cookie"))
        caller = None if session is None else await keys.find_by_id(session.key_id)
        if session is None or caller is None or not caller.may(access.Scope.READ):
            raise UnauthenticatedError
        reader = Caller(caller.key_id, frozenset({access.Scope.READ}))
        if not session.is_old or head.path == SIGN_OUT:
            return reader, []
        renewal = Response()
        self._sessions.go_on(renewal, session, scope)
        return reader, [header for header in renewal.raw_headers if header[0] == b"set-cookie"]


def _token(head: Head) -> str | None:
    """Return the token of the Authorization header, None if it has none."""
    scheme, _, token = (head.get(b"authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _send_with(headers: _Headers, send: Send) -> Send:
    """Return a `send` that adds headers to the answer."""

    def send_with_headers(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        return send(message)

    return send_with_headers
