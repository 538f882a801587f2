"""The ASGI application: its routers, middleware and lifespan."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from secrets import token_hex
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Lifespan

from oo_ml import tracing
from oo_ml.api import errors, health, openapi
from oo_ml.api.access.browsers import BrowserChecks
from oo_ml.api.access.guard import Guard
from oo_ml.api.access.rate_limits import RateLimit
from oo_ml.api.access_log import log_exchange, log_refusal
from oo_ml.api.analytics import endpoints as analytics
from oo_ml.api.decisions import batch_endpoints as batches
from oo_ml.api.decisions import endpoints as decisions
from oo_ml.api.exchanges import Observed
from oo_ml.api.hot_routes import HotRoutes
from oo_ml.api.metrics import endpoints as metrics
from oo_ml.api.metrics.observers import count_refusals, create_observer
from oo_ml.api.paths import EncodedPath
from oo_ml.api.policies import endpoints as policies
from oo_ml.api.prompts import endpoints as prompts
from oo_ml.api.server_state import REFUSED
from oo_ml.api.traced import Traced
from oo_ml.api.users import endpoints as users
from oo_ml.dashboard import pages
from oo_ml.dashboard.sessions import Sessions
from oo_ml.dashboard.sign_in import sign_in_router
from oo_ml.services.container import create_services, running
from oo_ml.setting_choices import Auth
from oo_ml.settings import Settings

_DESCRIPTION: Final = """Chooses the tip to show next for each user, and learns from their reactions.

Every error is a `Problem`: match its `code`, show its `detail`. A path that is not served is a 404 `not_found`, another
method a 405 `method_not_allowed`. After a 503 the call can be sent again. A list comes in pages: send `next_cursor` as
`cursor` until it is null."""


def create_app(settings: Settings, database_url: str) -> ASGIApp:
    """Return the application on a database; the database need not answer yet (ADR 5).

    Every call needs an API key, unless OO_ML_AUTH is `off`: `oo-ml serve` decides what `auto` means.

    Raises:
        ConfigurationError: a setting is invalid.
    """
    services = create_services(settings, database_url)

    spans = tracing.source()
    refusals = [count_refusals(services.metrics), *([log_refusal] if settings.access_log else [])]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with running(services):
            yield {REFUSED: refusals}

    app = create_api(settings, lifespan)
    app.state.services = services
    hot = HotRoutes(
        app,
        {
            "/score": decisions.score,
            "/score/egreedy": decisions.score_egreedy,
            "/reward": partial(_with_key, decisions.reward),
            "/reward/egreedy": partial(_with_key, decisions.reward_egreedy),
        },
        {"score": _score_policy, "reward": _reward_policy},
        settings.max_body_bytes,
    )
    keys = None if settings.auth is Auth.OFF else services.keys
    sessions = Sessions(_session_secret(settings))
    app.include_router(sign_in_router(sessions, services.keys.find))
    guarded: ASGIApp = Guard(hot, BrowserChecks.of(settings), keys, sessions, _rate_limit(settings))
    if settings.cors_origins:
        guarded = _allow_origins(guarded, settings.cors_origins)
    guarded = errors.UnexpectedErrors(guarded)
    observers = [create_observer(services.metrics), *([log_exchange] if settings.access_log else [])]
    return Observed(guarded if spans is None else Traced(guarded, spans), observers)


def _rate_limit(settings: Settings) -> RateLimit | None:
    return None if settings.rate_limit is None else RateLimit(settings.rate_limit)


def _session_secret(settings: Settings) -> str:
    """Return the secret that signs sessions; another admin key ends them all."""
    session_key = settings.session_key.get_secret_value() if settings.session_key else token_hex(32)
    admin_key = settings.admin_key.get_secret_value() if settings.admin_key else ""
    return f"{session_key} {admin_key}"


def _allow_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let pages of `origins` call, and read the answers. Keys are sent as a header, so no cookies are allowed."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"),
        expose_headers=("Retry-After", "X-Request-ID"),
    )


def create_api(settings: Settings, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """Return the application without its services: every call and page, and the OpenAPI document."""
    # /docs with its scripts, which plain FastAPI would load from another host.
    app = FastAPIOffline(
        redoc_url=None,
        title="oO ML",
        version=version("oo-ml"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
        redirect_slashes=False,
        # FastAPI's own would name users: validation failures with their input, messages of exceptions.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.add_middleware(EncodedPath)
    errors.install(app)
    for router in (
        decisions.router,
        batches.router,
        policies.router,
        prompts.generate_router,
        users.router,
        users.strict_router,
        decisions.receipt_router,
        analytics.router,
        prompts.router,
        health.router,
        metrics.router,
    ):
        # Not include_router, which would build every route again for each application, at its first request.
        app.router.routes.extend(router.routes)
    pages.install(app)
    openapi.install(app)
    return app


async def _with_key(endpoint: Callable[[Request, str | None], Awaitable[Response]], request: Request) -> Response:
    return await endpoint(request, request.headers.get("idempotency-key"))


async def _score_policy(request: Request) -> Response:
    return await policies.score(request, request.path_params["policy"])


async def _reward_policy(request: Request) -> Response:
    return await policies.reward(request, request.path_params["policy"], request.headers.get("idempotency-key"))
