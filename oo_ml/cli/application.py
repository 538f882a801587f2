"""The application of a process of `oo-ml serve`, which uvicorn imports by name."""

import asyncio
import gc
from collections.abc import Callable
from functools import cache
from typing import Any, cast

from starlette.types import ASGIApp

from oo_ml.api.app import create_app
from oo_ml.api.http_protocol import limited_protocol
from oo_ml.logs import configure_logging
from oo_ml.settings import Settings


def application() -> ASGIApp:
    """Return the application of a process, on the database that the environment names."""
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    assert settings.database_url is not None  # noqa: S101 - `serve` has set it
    app = create_app(settings, settings.database_url.get_secret_value())
    _limited()
    # A full collection, which walks all that is not frozen, delayed every call by 100 ms (ADR 10). None is made before:
    # it would take 70 ms, and imports leave no garbage worth that.
    gc.freeze()
    return app


def protocol(*arguments: Any, **options: Any) -> asyncio.Protocol:  # noqa: ANN401 - as uvicorn calls it
    """Return the protocol of a new connection."""
    return cast("asyncio.Protocol", _limited()(*arguments, **options))


@cache
def _limited() -> Callable[..., Any]:
    return cast("Callable[..., Any]", limited_protocol(Settings()))
