"""The guard in front of every call, the hot ones included: host, origin and type of the body, key."""

from dataclasses import dataclass
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


@dataclass(slots=True)
class _Admission:
    """The caller of a request, and headers for the answer: the cookie of a session that goes on."""

    caller: Caller
    headers: _Headers


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = head_of(scope)
        if not _SINGLE.isdisjoint(head.repeated):
            await answer_to(MalformedRequestError())(scope, receive, send)
            return
        added: _Headers = []
        app: ASGIApp
        try:
            admission = await self._admit(head, scope)
            added = admission.headers
            remember(scope, admission.caller)
            if head.path.startswith(_PAGES) and head.path != SIGN_IN:
                require(scope, access.Scope.READ)
            app = self._app
        except UnauthenticatedError as error:
            app = sign_in_page(scope.get("root_path", "")) if head.path in _SIGN_IN_FIRST else answer_to(error)
        except OoMlError as error:
            app = answer_to(error)
        await app(scope, receive, _send_with(added, send) if added else send)

    async def _admit(self, head: Head, scope: Scope) -> _Admission:
        """Return the caller of a request.

        Raises:
            OoMlError: the request is refused, or the keys can't be read now.
        """
        is_probe = head.path in PROBES
        if not is_probe:
            self._checks.check_host(head)
        self._checks.check_origin(head)
        if head.path == SIGN_IN and head.method == "POST":
            # A form, sent by a client that has no session yet.
            return _Admission(STRANGER, [])
        keys = None if is_probe else self._keys
        if keys is None:
            admission = _Admission(OPEN, [])
        else:
            admission = await self._authenticate(keys, head, scope)
            # One view of the dashboard loads dozens of files.
            if self._limit is not None and not head.path.startswith(_PAGES):
                await self._limit.count(admission.caller)
        self._checks.check_body(head)
        return admission

    async def _authenticate(self, keys: KeyRing, head: Head, scope: Scope) -> _Admission:
        authorization = head.get(b"authorization")
        if authorization is None:
            return await self._resume_session(keys, head, scope)
        scheme, _, token = authorization.partition(" ")
        is_metrics = head.path == METRICS
        is_token = scheme.lower() == "bearer" and bool(token)
        caller = await keys.find(token.strip(), or_last_read=is_metrics) if is_token else None
        if caller is None:
            raise UnauthenticatedError
        return _Admission(caller, [])

    async def _resume_session(self, keys: KeyRing, head: Head, scope: Scope) -> _Admission:
        """Admit a session. It may read and nothing else, whatever the scopes of its key are."""
        session = self._sessions.read(head.get(b"cookie"))
        caller = None if session is None else await keys.find_by_id(session.key_id)
        if session is None or caller is None or not caller.may(access.Scope.READ):
            raise UnauthenticatedError
        reader = Caller(caller.key_id, frozenset({access.Scope.READ}))
        if not session.is_old or head.path == SIGN_OUT:
            return _Admission(reader, [])
        renewal = Response()
        self._sessions.go_on(renewal, session, scope)
        return _Admission(reader, [header for header in renewal.raw_headers if header[0] == b"set-cookie"])


def _send_with(headers: _Headers, send: Send) -> Send:
    """Return a `send` that adds headers to the answer."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return send_with_headers
