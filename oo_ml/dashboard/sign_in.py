"""The page that asks for an API key, and the calls that begin and end a session."""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from oo_ml.dashboard.sessions import Sessions
from oo_ml.domain.access import Caller, Scope

SIGN_IN: Final = "/dashboard/sign-in"
SIGN_OUT: Final = "/dashboard/sign-out"
_PAGE: Final = Template((Path(__file__).parent / "html" / "sign-in.html").read_text("utf-8"))
_REFUSED: Final = '<p role="alert">This key is not valid, or lacks the scope <code>read</code>.</p>'
# No key has more bytes, and nothing else is read.
_LONGEST_BODY: Final = 4096

FindCaller = Callable[[str], Awaitable[Caller | None]]


def sign_in_page(root_path: str, *, is_refused: bool = False) -> Response:
    """Return the page that asks for a key, as a 401."""
    nonce = secrets.token_urlsafe(16)
    page = _PAGE.substitute(nonce=nonce, problem=_REFUSED if is_refused else "", action=f"{root_path}{SIGN_IN}")
    headers = {
        "Content-Security-Policy": f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(page, 401, headers)


def sign_in_router(sessions: Sessions, find_caller: FindCaller) -> APIRouter:
    """Return the calls that begin and end a session."""
    router = APIRouter(include_in_schema=False)

    @router.post(SIGN_IN)
    async def sign_in(request: Request) -> Response:
        body = await request.body()
        [key, *_] = parse_qs(body[:_LONGEST_BODY].decode("utf-8", "replace")).get("key") or [""]
        caller = await find_caller(key.strip())
        root = request.scope.get("root_path", "")
        if caller is None or not caller.may(Scope.READ):
            return sign_in_page(root, is_refused=True)
        response = RedirectResponse(f"{root}/dashboard", 303)
        sessions.begin(response, caller.key_id, request.scope)
        return response

    @router.post(SIGN_OUT)
    async def sign_out(request: Request) -> Response:
        root = request.scope.get("root_path", "")
        response = RedirectResponse(f"{root}/dashboard", 303)
        sessions.end(response, request.scope)
        return response

    return router
