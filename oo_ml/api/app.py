"""The application: what is started with it, and which door leads where."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from oo_ml import __version__
from oo_ml.api import decisions, errors, generate, health, people, prompts, reward, score, users, verify
from oo_ml.api.bodies import add_schemas
from oo_ml.api.paths import EncodedPath
from oo_ml.api.schemas.decisions import CorrectionRequest, RewardRequest, ScoreRequest
from oo_ml.api.schemas.generate import GenerateRequest
from oo_ml.api.schemas.prompts import PublishRequest
from oo_ml.services.startup import create_services, running
from oo_ml.settings import Settings


def create_app(settings: Settings, database_url: str) -> FastAPI:
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
    for noun in (score, reward, generate, users, people, decisions, verify, prompts, health):
        app.include_router(noun.router)
    _document_bodies(app)
    return app


def _document_bodies(app: FastAPI) -> None:
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            add_schemas(build(), [ScoreRequest, RewardRequest, CorrectionRequest, GenerateRequest, PublishRequest])
        return build()

    app.openapi = openapi  # type: ignore[method-assign]
