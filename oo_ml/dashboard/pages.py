"""The page: files of this package, which show what the service's own JSON says.

No file depends on what is asked for: the scripts read the address and ask. What comes from data is only ever text.
"""

from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_HERE: Final = Path(__file__).parent

_HEADERS: Final = {
    # Nothing from elsewhere, no script or style but in files, and no markup made from text, whatever a script tries.
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    # The address of a person's page names them.
    "Referrer-Policy": "no-referrer",
    # Kept, but asked about each time (ETag): a new release is seen at once.
    "Cache-Control": "no-cache",
}


class _Files(StaticFiles):
    """Files with the headers of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file, or that the browser has it already."""
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


_pages: Final = _Files(directory=_HERE / "html")
_router: Final = APIRouter(include_in_schema=False)


def install(app: FastAPI) -> None:
    """Add the page to an application."""
    app.include_router(_router)
    app.mount("/dashboard/static", _Files(directory=_HERE / "static"), name="dashboard")


@_router.get("/dashboard")
async def overview(request: Request) -> Response:
    """How tips, prompt versions and policies are doing."""
    return await _pages.get_response("overview.html", request.scope)


@_router.get("/dashboard/user")
async def user(request: Request) -> Response:
    """What is known of one person, named by the query parameter `id`."""
    return await _pages.get_response("user.html", request.scope)


@_router.get("/dashboard/")
async def with_a_slash(request: Request) -> Response:
    """Lead those who type one slash too many to the page; its links are relative."""
    return RedirectResponse(f"../dashboard?{request.url.query}".rstrip("?"))
