"""Sessions of the dashboard: a signed cookie that names an API key.

It ends an hour after its last use, and twelve hours after the sign-in.
"""

import time
from dataclasses import dataclass
from typing import Final

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import Scope

COOKIE: Final = "oo_ml_session"
# Scripts can't read the cookie above. This one tells them that there is a session to sign out of.
SIGNED_IN: Final = "oo_ml_signed_in"
IDLE_SECONDS: Final = 3600
LONGEST_SECONDS: Final = 12 * 3600
_LONGEST_VALUE: Final = 512
# A cookie that is older is renewed, so that not every answer sets it.
_RENEWED_AFTER: Final = 60


@dataclass(frozen=True, slots=True)
class Session:
    """A session: the id of its API key, its beginning (seconds since 1970), whether its cookie should be renewed."""

    key_id: str
    began_at: float
    is_old: bool = True


class Sessions:
    """Cookies of sessions, signed with a secret that all processes of a service share."""

    def __init__(self, secret: str) -> None:
        self._serializer = URLSafeTimedSerializer(secret, salt="oo-ml session")

    def read(self, cookies: str | None) -> Session | None:
        """Return the session of a Cookie header; None if there is none, or if it is forged or has ended."""
        # http.cookies takes seconds for some headers of a few kilobytes, and refuses all cookies if one is odd.
        value = cookie_parser(cookies or "").get(COOKIE, "")
        if not 0 < len(value) <= _LONGEST_VALUE:
            return None
        try:
            (key_id, began_at), used_at = self._serializer.loads(value, max_age=IDLE_SECONDS, return_timestamp=True)
        except BadSignature:
            return None
        now = time.time()
        if now - began_at > LONGEST_SECONDS:
            return None
        return Session(key_id, began_at, is_old=now - used_at.timestamp() > _RENEWED_AFTER)

    def begin(self, response: Response, key_id: str, request: Scope) -> None:
        """Set the cookies of a session that `request` begins; over TLS they are sent over TLS only."""
        self.go_on(response, Session(key_id, time.time()), request)

    def go_on(self, response: Response, session: Session, request: Scope) -> None:
        """Set the cookies of a session that `request` goes on with."""
        signed = str(self._serializer.dumps([session.key_id, session.began_at]))
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
