"""The scope that each call needs: declared at its route, checked before anything else of the call."""

from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.types import Scope as AsgiScope

from oo_ml.api.exchanges import exchange_of
from oo_ml.domain.access import Caller, Scope
from oo_ml.errors import MissingScopeError
from oo_ml.services.access.audit_log import Action

_CALLER: Final = "caller"
_NEEDED: Final = "_needed_scope"


@cache
def needs(scope: Scope) -> Any:  # noqa: ANN401 - FastAPI types a dependency as Any
    """Return the dependency of a route that refuses callers without `scope`."""

    async def check(request: Request) -> None:
        require(request.scope, scope)

    setattr(check, _NEEDED, scope)
    return Depends(check)


def require(request: AsgiScope, scope: Scope) -> None:
    """Check that the caller of a request has `scope`.

    Raises:
        MissingScopeError: the caller lacks it.
    """
    if not caller_of(request).may(scope):
        raise MissingScopeError(f"The API key lacks the scope {scope}")


def scope_of(route: APIRoute) -> Scope | None:
    """Return the scope that a route needs, None if it declares none."""
    return next(
        (getattr(one.dependency, _NEEDED) for one in route.dependencies if hasattr(one.dependency, _NEEDED)), None
    )


def remember(request: AsgiScope, caller: Caller) -> None:
    """Attach the caller to a request that the guard admits."""
    request["state"][_CALLER] = caller
    exchange_of(request).key_id = caller.key_id


def caller_of(request: AsgiScope) -> Caller:
    """Return the caller of a request that has passed the guard."""
    caller: Caller = request["state"][_CALLER]
    return caller


def action_of(request: Request, name: str) -> Action:
    """Return the administrative action `name` of the caller, for the audit log."""
    return Action(name, caller_of(request.scope), datetime.now(UTC), exchange_of(request.scope).request_id)
