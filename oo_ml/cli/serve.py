"""`oo-ml serve`: the HTTP service, with a private PostgreSQL if no other is named."""

import gc
import signal
from contextlib import suppress
from typing import Annotated, NoReturn

import typer
import uvicorn

from oo_ml.api.app import create_app
from oo_ml.errors import ConfigurationError
from oo_ml.observability import configure_logging
from oo_ml.services.startup import database
from oo_ml.settings import Settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one", min=0, max=65535)] = 8000,
) -> None:
    """Serve until SIGINT or SIGTERM; what was accepted is finished first."""
    settings = Settings()
    configure_logging(settings.log_level)
    # uvicorn passes a signal on once it has stopped; the default would then end the process before PostgreSQL is
    # stopped. A closed terminal counts as well; uvicorn knows nothing of that.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    with database(settings) as url:
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(settings, url),
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                # Nobody asks for the address of a client.
                proxy_headers=False,
                lifespan="on",
                timeout_graceful_shutdown=settings.shutdown_timeout,
            )
        )
        _spare_the_collector()
        # Both mean that it has stopped: by a signal, or because it could not start.
        with suppress(KeyboardInterrupt, SystemExit):
            server.run()
        if not server.started:
            raise ConfigurationError(f"The service can't listen on {host}, port {port}: the log says why")


def _spare_the_collector() -> None:
    """Don't have Python look for garbage in all that was imported, again and again: it held up every call under way.

    What calls leave behind is freed as it falls out of use; cycles are few, so they are looked for less often too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _leave(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)
