"""`oo-ml serve`: the HTTP service, with a private PostgreSQL if no other is named."""

import ipaddress
import logging
import os
import re
import signal
import socket
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, NoReturn

import typer

from oo_ml import tracing
from oo_ml.cli.listeners import LOOPBACK_NAMES, are_loopback, bind, bind_unix, remove
from oo_ml.cli.servers import DrainingConfig, DrainingServer, Supervisor
from oo_ml.errors import ConfigurationError, UnavailableError
from oo_ml.logs import configure_logging
from oo_ml.services.access import keys
from oo_ml.services.database import refuse_unusable, run_once
from oo_ml.services.database_address import database
from oo_ml.setting_choices import Auth
from oo_ml.settings import Settings

logger = logging.getLogger(__name__)

# Imported by each process that serves. FastAPI and the endpoints take a second.
_APPLICATION: Final = "oo_ml.cli.application"
# prometheus_client reads this variable.
_METRICS_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
# The only trusted proxy that uvicorn finds in the peer of a Unix socket, which has no address.
_ANY_PEER: Final = "*"
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def _prefix(path: str) -> str:
    if path and not _PREFIX.fullmatch(path):
        raise typer.BadParameter("must begin with /, not end with /, and have letters, digits and - . _ ~ only")
    return path


def _proxies(values: list[str] | None) -> list[str]:
    # uvicorn takes any other word for the name of a peer, which no peer has.
    for value in set(values or ()) - {_ANY_PEER}:
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise typer.BadParameter("must be an IP address, a network such as 10.0.0.0/8, or *") from None
    # uvicorn knows it only alone.
    return [_ANY_PEER] if _ANY_PEER in (values or ()) else values or []


def serve(  # noqa: PLR0913, PLR0917 - the options of the command
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one", min=0, max=65535)] = 8000,
    uds: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Listen on this socket, readable by group, instead of a port")
    ] = None,
    ssl_certfile: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Serve HTTPS with this certificate")
    ] = None,
    ssl_keyfile: Annotated[
        Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Private key of the certificate")
    ] = None,
    root_path: Annotated[
        str,
        typer.Option(
            metavar="PATH", callback=_prefix, help="Prefix that a proxy removes from each path, such as /oo-ml"
        ),
    ] = "",
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            callback=_proxies,
            help="Proxy whose X-Forwarded headers are believed: an IP address, a network, or * for every client (with"
            " --uds only *); several times for several",
        ),
    ] = None,
) -> None:
    """Serve HTTP until SIGINT or SIGTERM.

    Calls need an API key, unless only this machine reaches the address (OO_ML_AUTH). Finishes accepted calls before
    it stops. Without OO_ML_DATABASE_URL it starts and migrates a private PostgreSQL. It never migrates the database at
    OO_ML_DATABASE_URL. Exit code 1 if the service can't start.
    """
    if uds and trusted_proxy and trusted_proxy != [_ANY_PEER]:
        raise typer.BadParameter("a proxy that uses the socket has no address: give *", param_hint="--trusted-proxy")
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    tracing.check()
    # uvicorn raises a signal again after it has stopped. That is how a service ends, so the exit code is 0. uvicorn
    # does not handle SIGHUP, which a closed terminal sends.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    with ExitStack() as stack:
        sockets = _listen(stack, uds, host, port)
        share_metrics(stack, settings.processes)
        # The only process that serves imports while PostgreSQL starts; several processes import by themselves.
        meanwhile = partial(import_module, _APPLICATION) if settings.processes == 1 else None
        url = stack.enter_context(database(settings, meanwhile=meanwhile))
        refuse_unusable(settings, url)
        _give_to_processes(settings, url, is_local=are_loopback(sockets) and not (trusted_proxy or root_path))
        config = _configure(
            settings,
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
            root_path=root_path,
            proxy_headers=bool(trusted_proxy),
            forwarded_allow_ips=trusted_proxy or [],
        )
        _run(config, sockets)


def _listen(stack: ExitStack, uds: Path | None, host: str, port: int) -> list[socket.socket]:
    """Return the sockets of the service; `stack` closes them, and removes that in the file system."""
    sockets = [bind_unix(uds)] if uds else bind(host, port)
    for one in sockets:
        stack.enter_context(one)
    if uds:
        stack.callback(remove, uds, uds.stat().st_ino)
    return sockets


def _give_to_processes(settings: Settings, url: str, *, is_local: bool) -> None:
    """Set the variables from which the processes of the service read these settings."""
    _set("database_url", url)
    _set("auth", _decide_auth(settings, url, is_local=is_local))
    if settings.session_key is None:
        _set("session_key", token_hex(32))
    if is_local and not settings.allowed_hosts:
        _set("allowed_hosts", ",".join(LOOPBACK_NAMES))


def _configure(settings: Settings, **options: Any) -> DrainingConfig:  # noqa: ANN401 - uvicorn's
    """Return the configuration of the server, with uvicorn's `options` for TLS and proxies."""
    return DrainingConfig(
        f"{_APPLICATION}:application",
        factory=True,
        http=f"{_APPLICATION}:protocol",
        ws="none",
        workers=settings.processes,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_worker_healthcheck=settings.process_timeout,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=settings.shutdown_timeout,
        drain=settings.drain,
        **options,
    )


def _run(config: DrainingConfig, sockets: list[socket.socket]) -> None:
    """Serve until a signal.

    Raises:
        ConfigurationError: the service could not start.
    """
    if config.workers == 1:
        # A signal ends the command during the import, see DrainingServer.run.
        config.load()
    server = DrainingServer(config)
    has_started = False
    # uvicorn raises these when a signal stopped it, or when it could not start.
    with suppress(KeyboardInterrupt, SystemExit):
        if config.workers > 1:
            supervisor = Supervisor(config, sockets)
            has_started = True
            supervisor.run()
        else:
            server.run(sockets)
    if not (has_started or server.started):
        raise ConfigurationError("The service could not start; see the log")


def share_metrics(stack: ExitStack, processes: int) -> None:
    """Give several processes a directory, as long as they run, in which they add up their metrics.

    Raises:
        ConfigurationError: there is no place for it.
    """
    # A single process must not write to a directory that its environment happens to name.
    os.environ.pop(_METRICS_DIRECTORY, None)
    if processes == 1:
        return
    try:
        directory = TemporaryDirectory(prefix="oo-ml-metrics-")
    except OSError as error:
        raise ConfigurationError(
            f"Several processes need a directory for temporary files that can be written: set TMPDIR ({error.strerror})"
        ) from None
    os.environ[_METRICS_DIRECTORY] = stack.enter_context(directory)


def _set(name: str, value: str) -> None:
    """Give a setting to the processes of the service; a file that contained it is read no more."""
    variable = Settings.variable(name)
    os.environ[variable] = value
    os.environ.pop(f"{variable}_FILE", None)


def _decide_auth(settings: Settings, url: str, *, is_local: bool) -> Auth:
    """Return whether calls need a key: `required` or `off`.

    Raises:
        ConfigurationError: they do, and there is none.
    """
    if settings.auth is Auth.OFF:
        logger.warning("OO_ML_AUTH=off: every client that reaches this address can read, change and erase all data")
        return Auth.OFF
    if settings.auth is Auth.AUTO and is_local:
        logger.info("Calls need no key, because only this machine can reach the address (OO_ML_AUTH)")
        return Auth.OFF
    if settings.admin_key is None:
        try:
            [has_key] = run_once(settings, url, keys.exists, [None], read_only=True)
        except UnavailableError as error:
            # ADR 5: the service starts without its database.
            logger.warning("whether an API key exists can't be told: %s", error.explanation)
        else:
            if not has_key:
                raise ConfigurationError(
                    "Calls need an API key on this address, and none exists: run `oo-ml keys create NAME --scope admin`"
                    " or set OO_ML_ADMIN_KEY"
                )
    return Auth.REQUIRED


def _leave(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)
