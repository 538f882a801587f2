"""The dashboard: static files that show the JSON of the service.

The files are the same for every request; their scripts read the address and call the service. Data is shown as text and
never parsed as markup.
"""

from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_HERE: Final = Path(__file__).parent

_HEADERS: Final = {
    # No other origin, no inline script or style, and no markup made from text.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    # The address of a user's page contains the user's id. With `no-referrer` a form would have the Origin `null`.
    "Referrer-Policy": "same-origin",
    # The browser keeps files but checks the ETag each time, so it sees a new release at once.
    "Cache-Control": "no-cache",
}


class _Files(StaticFiles):
    """Static files with the headers above."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file, or with 304 if the browser has it already."""
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


_pages: Final = _Files(directory=_HERE / "html")
_router: Final = APIRouter(include_in_schema=False)


def install(app: FastAPI) -> None:
    """Add the dashboard to an application."""
    app.router.routes.extend(_router.routes)
    app.mount("/dashboard/static", _Files(directory=_HERE / "static"), name="dashboard")


@_router.head("/dashboard")
@_router.get("/dashboard")
async def overview(request: Request) -> Response:
    """Answer with the overview of tips, prompt versions and policies."""
    return await _pages.get_response("overview.html", request.scope)


@_router.head("/dashboard/user")
@_router.get("/dashboard/user")
async def user(request: Request) -> Response:
    """Answer with the page of the user named by the query parameter `id`."""
    return await _pages.get_response("user.html", request.scope)


@_router.get("/dashboard/")
async def redirect_slash(request: Request) -> Response:
    """Redirect to the address without the slash, because the links of the page are relative."""
    return RedirectResponse(f"../dashboard?{request.url.query}".rstrip("?"))
