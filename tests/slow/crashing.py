"""A PostgreSQL and a service in processes of their own, which are killed without warning and started again."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from oo_ml.embedded_postgres import running
from oo_ml.settings import Settings
from oo_ml.storage.schema import migrate
from tests.commands import Served, processes_in, run_serve
from tests.conftest import make_settings
from tests.embedded_postgres.processes import pid
from tests.waiting import PATIENCE, until


class Machine:
    """The running processes. The database syncs each commit."""

    def __init__(self, directory: Path, held: ExitStack) -> None:
        self._directory = directory
        self._data = directory / "data"
        self._held = held
        self._starts = 0
        self.url = self._start_database()
        migrate.upgrade(self.url, make_settings())
        self._service = self._start_service()

    @property
    def address(self) -> str:
        """The last address of the service."""
        return str(self._service.client.base_url).rstrip("/")

    def kill_service(self) -> None:
        """End the service with SIGKILL, and start it again."""
        self._service.stop(signal.SIGKILL)
        self._service = self._start_service()

    def kill_database(self) -> None:
        """End every process of PostgreSQL with SIGKILL, all at once, and start it again."""
        self._kill_database(processes_in(self._data / "postgres"))

    def kill_postmaster(self) -> None:
        """End PostgreSQL's first process with SIGKILL, wait until the others end, and start it again."""
        self._kill_database(set())

    def _kill_database(self, others: set[int]) -> None:
        first = pid(self._data)
        assert first is not None
        # First, since it starts new ones for those that die.
        for process in (first, *others - {first}):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        until(lambda: not processes_in(self._data / "postgres"))
        self._start_database()

    def _start_database(self) -> str:
        return self._held.enter_context(running(self._data, bin_dir=None, start_timeout=PATIENCE)).url

    def _start_service(self) -> Served:
        self._starts += 1
        log = self._directory / f"service-{self._starts}.log"
        # The lanes' own patience: what a killed service leaves behind holds rows for a moment.
        patience = Settings.model_fields["lane_lock_timeout"].get_default()
        return self._held.enter_context(run_serve(log, OO_ML_DATABASE_URL=self.url, OO_ML_LANE_LOCK_TIMEOUT=patience))


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """Run both until the block ends, with their data and logs below `directory`."""
    with ExitStack() as held:
        yield Machine(directory, held)
