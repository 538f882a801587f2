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
    _freeze_imports()
    return app


def protocol(*arguments: Any, **options: Any) -> asyncio.Protocol:  # noqa: ANN401 - as uvicorn calls it
    """Return the protocol of a new connection."""
    return cast("asyncio.Protocol", _limited()(*arguments, **options))


@cache
def _limited() -> Callable[..., Any]:
    return cast("Callable[..., Any]", limited_protocol(Settings()))


def _freeze_imports() -> None:
    """Freeze all imported objects out of garbage collection: a full collection delayed every call by 100 ms (ADR 10).

    Calls leave few reference cycles, so collections are also rarer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
