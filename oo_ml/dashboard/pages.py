"""The dashboard: static files of this package. Their scripts read the address and fetch the service's own JSON.

Data is only ever inserted as text, never as markup.
"""

from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_HERE: Final = Path(__file__).parent

_HEADERS: Final = {
    # Only files of this service; no inline scripts or styles; no markup from text, even if a script has a bug.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    # The address of a user's page contains the user's id.
    "Referrer-Policy": "no-referrer",
    # Cached, but checked each time (ETag), so that a new release is seen at once.
    "Cache-Control": "no-cache",
}


class _Files(StaticFiles):
    """Files with the headers of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file, or with 304 if the browser has it."""
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


_pages: Final = _Files(directory=_HERE / "html")
_router: Final = APIRouter(include_in_schema=False)


def install(app: FastAPI) -> None:
    """Add the dashboard to an application."""
    app.include_router(_router)
    app.mount("/dashboard/static", _Files(directory=_HERE / "static"), name="dashboard")


@_router.get("/dashboard")
async def overview(request: Request) -> Response:
    """Return the page of all users: tips, prompt versions and policies."""
    return await _pages.get_response("overview.html", request.scope)


@_router.get("/dashboard/user")
async def user(request: Request) -> Response:
    """Return the page of the user that the query parameter `id` names."""
    return await _pages.get_response("user.html", request.scope)


@_router.get("/dashboard/")
async def with_a_slash(request: Request) -> Response:
    """Redirect to the address without the slash, since the page's links are relative."""
    return RedirectResponse(f"../dashboard?{request.url.query}".rstrip("?"))
