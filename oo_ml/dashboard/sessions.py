"""Sessions of the dashboard: a signed cookie that names an API key, and ends an hour after its last use."""

import time
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.responses import Response
from starlette.types import Scope

COOKIE: Final = "oo_ml_session"
# Scripts can't read the cookie above. This one tells them that there is a session to sign out of.
SIGNED_IN: Final = "oo_ml_signed_in"
IDLE_SECONDS: Final = 3600
# A cookie that is older is renewed, so that not every answer sets it.
_RENEWED_AFTER: Final = 60


@dataclass(frozen=True, slots=True)
class Session:
    """A session: the id of its API key, and whether its cookie should be renewed."""

    key_id: str
    is_old: bool


class Sessions:
    """Cookies of sessions, signed with a secret that all processes of a service share."""

    def __init__(self, secret: str) -> None:
        self._serializer = URLSafeTimedSerializer(secret, salt="oo-ml session")

    def read(self, cookies: str | None) -> Session | None:
        """Return the session of a Cookie header; None if there is none, or if it is forged or has ended."""
        try:
            morsel = SimpleCookie(cookies or "").get(COOKIE)
            if morsel is None:
                return None
            key_id, signed_at = self._serializer.loads(morsel.value, max_age=IDLE_SECONDS, return_timestamp=True)
        except (BadSignature, CookieError):
            return None
        return Session(str(key_id), time.time() - signed_at.timestamp() > _RENEWED_AFTER)

    def begin(self, response: Response, key_id: str, request: Scope) -> None:
        """Set the cookies of a session that `request` begins or goes on with; over TLS they are sent over TLS only."""
        signed = str(self._serializer.dumps(key_id))
        for name, value in ((COOKIE, signed), (SIGNED_IN, "1")):
            response.set_cookie(
                name,
                value,
                max_age=IDLE_SECONDS,
                path=_path(request),
                secure=request["scheme"] == "https",
                httponly=name == COOKIE,
                samesite="strict",
            )

    @staticmethod
    def end(response: Response, request: Scope) -> None:
        """Remove the cookies."""
        for name in (COOKIE, SIGNED_IN):
            response.delete_cookie(name, path=_path(request), samesite="strict", httponly=name == COOKIE)


def _path(request: Scope) -> str:
    return request.get("root_path", "") or "/"
