"""`oo-ml serve`: the HTTP service, with a private PostgreSQL if no other is named."""

import os
import signal
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Annotated, Final, NoReturn

import typer
import uvicorn
from uvicorn.supervisors import Multiprocess

from oo_ml.errors import ConfigurationError
from oo_ml.logs import configure_logging
from oo_ml.services.database import refuse_encoding
from oo_ml.services.database_address import database
from oo_ml.settings import Settings

# Imported by each process that serves. FastAPI and the endpoints take a second.
_APPLICATION: Final = "oo_ml.cli.application"


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one", min=0, max=65535)] = 8000,
) -> None:
    """Serve HTTP until SIGINT or SIGTERM.

    Finishes accepted calls before it stops. Without OO_ML_DATABASE_URL it starts and migrates a private PostgreSQL. It
    never migrates the database at OO_ML_DATABASE_URL. Exit code 1 if the service can't start.
    """
    settings = Settings()
    configure_logging(settings.log_level)
    # uvicorn raises a signal again after it has stopped. The default handler would then end the process before
    # PostgreSQL is stopped. SIGHUP, which a closed terminal sends, is not handled by uvicorn.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    # The only process that serves imports while PostgreSQL starts; several processes import by themselves.
    meanwhile = partial(import_module, _APPLICATION) if settings.processes == 1 else None
    with database(settings, meanwhile=meanwhile) as url:
        refuse_encoding(settings, url)
        # The processes read the address from the environment.
        os.environ[Settings.variable("database_url")] = url
        config = uvicorn.Config(
            f"{_APPLICATION}:application",
            factory=True,
            host=host,
            port=port,
            workers=settings.processes,
            log_config=None,
            access_log=False,
            # The service does not use the address of a client.
            proxy_headers=False,
            lifespan="on",
            timeout_graceful_shutdown=settings.shutdown_timeout,
        )
        server = uvicorn.Server(config)
        has_started = False
        # uvicorn raises these when a signal stopped it, or when it could not start.
        with suppress(KeyboardInterrupt, SystemExit):
            if settings.processes > 1:
                supervisor = _Supervisor(config, [config.bind_socket()])
                has_started = True
                supervisor.run()
            else:
                server.run()
        if not (has_started or server.started):
            raise ConfigurationError(f"The service can't listen on {host}, port {port}; see the log")


class _Supervisor(Multiprocess):
    """Supervisor of several processes on one socket, which replaces a process that dies."""

    def handle_hup(self) -> None:
        """Stop, as for other signals; uvicorn would restart the processes when a terminal is closed."""
        self.handle_term()


def _leave(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)
