"""The application: what is started with it, and which door leads where."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from oo_ml import __version__
from oo_ml.api import (
    analytics,
    batches,
    decisions,
    errors,
    generate,
    health,
    people,
    prompts,
    reward,
    score,
    users,
    verify,
)
from oo_ml.api.bodies import add_schemas
from oo_ml.api.paths import EncodedPath
from oo_ml.api.schemas.batches import RewardBatch, ScoreBatch
from oo_ml.api.schemas.decisions import CorrectionRequest, RewardRequest, ScoreRequest
from oo_ml.api.schemas.generate import GenerateRequest
from oo_ml.api.schemas.prompts import PublishRequest
from oo_ml.api.shortcut import Shortcut
from oo_ml.dashboard import pages
from oo_ml.services.startup import create_services, running
from oo_ml.settings import Settings

_BODIES: Final = (
    ScoreRequest,
    ScoreBatch,
    RewardRequest,
    RewardBatch,
    CorrectionRequest,
    GenerateRequest,
    PublishRequest,
)


def create_app(settings: Settings, database_url: str) -> ASGIApp:
    """Return the service on a database, which need not answer yet.

    Raises:
        ConfigurationError: a setting makes no sense.
    """
    services = create_services(settings, database_url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(services):
            yield

    # /docs with all it needs, which FastAPI itself would load from somewhere else.
    app = FastAPIOffline(
        redoc_url=None,
        title="oO ML",
        version=__version__,
        description="Which tip to show next, for each person, learned from their reactions.",
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
        redirect_slashes=False,
    )
    app.state.services = services
    app.add_middleware(EncodedPath)
    errors.install(app)
    for noun in (score, reward, batches, generate, users, people, decisions, verify, analytics, prompts, health):
        app.include_router(noun.router)
    pages.install(app)
    _document_bodies(app)
    return errors.Bugs(
        Shortcut(
            app,
            {
                "/score": score.score,
                "/score/egreedy": score.score_egreedy,
                "/reward": partial(_with_key, reward.reward),
                "/reward/egreedy": partial(_with_key, reward.reward_egreedy),
            },
            settings.max_body_bytes,
        )
    )


async def _with_key(endpoint: Callable[[Request, str | None], Awaitable[Response]], request: Request) -> Response:
    return await endpoint(request, request.headers.get("idempotency-key"))


def _document_bodies(app: FastAPI) -> None:
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            add_schemas(build(), _BODIES)
        return build()

    app.openapi = openapi  # type: ignore[method-assign]
