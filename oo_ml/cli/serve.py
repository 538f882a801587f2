"""`oo-ml serve`: the HTTP service, with a private PostgreSQL if no other is named."""

import gc
import os
import signal
from contextlib import suppress
from typing import Annotated, NoReturn

import typer
import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from oo_ml.api.app import create_app
from oo_ml.errors import ConfigurationError
from oo_ml.logs import configure_logging
from oo_ml.services.database import database, refuse_encoding
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
        refuse_encoding(settings, url)
        # Where the processes find it.
        os.environ[Settings.variable("database_url")] = url
        config = uvicorn.Config(
            f"{__name__}:{application.__name__}",
            factory=True,
            host=host,
            port=port,
            workers=settings.processes,
            log_config=None,
            access_log=False,
            # Nobody asks for the address of a client.
            proxy_headers=False,
            lifespan="on",
            timeout_graceful_shutdown=settings.shutdown_timeout,
        )
        server = uvicorn.Server(config)
        has_started = False
        # Both mean that it has stopped: by a signal, or because it could not start.
        with suppress(KeyboardInterrupt, SystemExit):
            if settings.processes > 1:
                supervisor = _Supervisor(config, [config.bind_socket()])
                has_started = True
                supervisor.run()
            else:
                server.run()
        if not (has_started or server.started):
            raise ConfigurationError(f"The service can't listen on {host}, port {port}: the log says why")


def application() -> ASGIApp:
    """Return the application of a process, on the database that the environment names."""
    settings = Settings()
    configure_logging(settings.log_level)
    assert settings.database_url is not None  # noqa: S101 - `serve` has set it
    app = create_app(settings, settings.database_url.get_secret_value())
    _spare_the_collector()
    return app


class _Supervisor(Multiprocess):
    """Keeps several processes running on one socket; one that dies is replaced."""

    def handle_hup(self) -> None:
        """End, as for every other signal: a closed terminal does not ask for new processes."""
        self.handle_term()


def _spare_the_collector() -> None:
    """Don't have Python look for garbage in all that was imported, again and again: it held up every call under way.

    What calls leave behind is freed as it falls out of use; cycles are few, so they are looked for less often too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _leave(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)
