"""uvicorn's server and its processes, with a time to drain."""

import logging
import os
import signal
import socket
import threading
import time
from multiprocessing import parent_process
from types import FrameType
from typing import Any, Final, cast

import uvicorn
from uvicorn.supervisors import Multiprocess, multiprocess

from oo_ml.api.server_state import DRAINING
from oo_ml.cli.process import prepare_process

logger = logging.getLogger(__name__)

# A process may take so many times OO_ML_PROCESS_TIMEOUT to answer for the first time.
_STARTING: Final = 10


class DrainingConfig(uvicorn.Config):
    """Configuration of a server that goes on for `drain` seconds after a signal."""

    def __init__(self, *arguments: Any, drain: float, **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        """Take uvicorn's arguments, and the seconds."""
        super().__init__(*arguments, **options)
        self.drain = drain


class DrainingServer(uvicorn.Server):
    """Server that goes on for OO_ML_DRAIN after a signal; /readyz answers 503 meanwhile, so balancers look away.

    A second signal ends the drain.
    """

    config: DrainingConfig
    _stops_at: float | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Import the application, then serve.

        uvicorn would import it with its handlers of signals set, which only note a signal. A process that is told to
        stop meanwhile would first finish its start, which takes seconds on a busy machine.
        """
        if not self.config.loaded:
            self.config.load()
        super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal."""
        if self.should_exit:
            self._stops_at = time.monotonic()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and log the addresses; uvicorn logs only those of sockets that it made itself."""
        await super().startup(sockets)
        scheme = "https" if self.config.ssl else "http"
        logger.info("Listening on %s", " and ".join(_address(one.getsockname(), scheme) for one in sockets or ()))

    async def on_tick(self, counter: int) -> bool:
        """Do what is regular, and return whether the server stops now."""
        if not await super().on_tick(counter):
            return False
        if self._stops_at is None:
            self._stops_at = time.monotonic() + self.config.drain
            # Each request of a connection sees this state.
            self.lifespan.state[DRAINING] = True
            if self.config.drain:
                logger.info("draining for %g s", self.config.drain)
        return self.force_exit or time.monotonic() >= self._stops_at


class Worker(multiprocess.Process):
    """Process of several."""

    # The time.monotonic() of the first question; None: not asked yet.
    _first_asked: float | None = None
    _has_answered = False

    def is_alive(self, timeout: float = 5) -> bool:
        """Return whether the process lives and answers within `timeout` seconds, the first time within ten times that.

        On a busy machine its interpreter starts slowly, and a process that replaced it would start no faster.
        """
        if not self.process.is_alive():
            return False
        if self._has_answered:
            return self.ping(timeout)
        try:
            if self._first_asked is None:
                self._first_asked = time.monotonic()
                self.parent_conn.send(b"ping")
            # Not asked again: nothing reads the questions yet, and a full pipe would stop the supervisor.
            if self.parent_conn.poll():
                self.parent_conn.recv()
                self._has_answered = True
        except (OSError, EOFError):
            return False
        return self._has_answered or time.monotonic() - self._first_asked < _STARTING * timeout

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, in the new process, until a signal or the end of the supervisor."""
        prepare_process()
        threading.Thread(target=_stop_with_parent, name="parent", daemon=True).start()
        super().target(sockets)

    @property
    def server(self) -> uvicorn.Server:
        """The server of the process, made once."""
        if self._server is None:
            self._server = DrainingServer(config=cast("DrainingConfig", self.config))
        return self._server


# The supervisor makes its processes by this name.
multiprocess.Process = Worker  # type: ignore[misc]


class Supervisor(Multiprocess):
    """Supervisor of several processes on the same sockets, which replaces a process that dies."""

    def keep_subprocess_alive(self) -> None:
        """Replace dead processes, and remove their part of the metrics: the gauges of queues and connections."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(pid)  # type: ignore[no-untyped-call]

    def handle_ttin(self) -> None:
        """Do nothing; uvicorn would add a process. Their number is a setting."""

    def handle_ttou(self) -> None:
        """Do nothing; uvicorn would end a process."""

    def handle_hup(self) -> None:
        """Stop, as for other signals; uvicorn would restart the processes when a terminal is closed."""
        self.handle_term()


def _stop_with_parent() -> None:
    """Stop this process when its supervisor has been killed: without one it would keep the port, unseen."""
    parent = parent_process()
    assert parent is not None  # noqa: S101 - the supervisor has started this process
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _address(name: str | tuple[str, int], scheme: str) -> str:
    if isinstance(name, str):
        return name
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
