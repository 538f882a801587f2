"""An upgrade under load: migrate, then replace the services of the previous release one after the other."""

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import Engine

from oo_ml.storage.postgres import engine
from tests.commands import Served, run_serve
from tests.conftest import MIGRATOR, SERVICE, allow_migrations, as_role, make_settings
from tests.rows import assert_folded
from tests.slow.upgrade.balancer import Balancer, running_balancer
from tests.slow.upgrade.releases import Release, coming_release, previous_release
from tests.slow.upgrade.steady_load import SteadyLoad, assert_stored
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

# Calls between two steps, so that each state of the upgrade is under load.
CALLS: Final = 100
# Seconds in which a service that was told to stop still takes calls; the balancer notices within a twentieth.
DRAIN: Final = 2
# A log entry with the level error, as text or as JSON.
ERROR: Final = re.compile(r'\bERROR\b|"level": ?"error"|Traceback')


class Fleet:
    """The services behind a balancer; all use one database."""

    def __init__(self, url: str, directory: Path, balancer: Balancer, held: ExitStack) -> None:
        self._url = url
        self._directory = directory
        self._balancer = balancer
        self._held = held
        self.logs: list[Path] = []

    def start(self, release: Release) -> Served:
        """Start a service of a release, and wait until the balancer uses it."""
        log = self._directory / f"service-{len(self.logs)}.log"
        self.logs.append(log)
        variables = {"OO_ML_DATABASE_URL": self._url, "OO_ML_DRAIN": DRAIN, **release.variables}
        served = self._held.enter_context(run_serve(log, None, **variables))
        self._balancer.add(_port(served))
        return served

    def stop(self, served: Served) -> None:
        """Stop a service as a rollout does, and wait for its end."""
        served.process.send_signal(signal.SIGTERM)
        self._balancer.wait_until_unready(_port(served))
        assert served.process.wait(PATIENCE) == 0
        self._balancer.remove(_port(served))


def _port(served: Served) -> int:
    port = served.client.base_url.port
    assert port is not None
    return port


@pytest.fixture
def previous(tmp_path: Path) -> Release:
    """The release of the previous commit."""
    return previous_release(tmp_path / "previous")


@pytest.fixture
def coming(tmp_path: Path) -> Release:
    """This checkout, with migrations that follow its own."""
    return coming_release(tmp_path / "coming")


@pytest.fixture
def owner_url(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> str:
    """The address of an empty database for the role that migrates it."""
    allow_migrations(empty_postgresql)
    empty_postgresql.commit()
    return as_role(empty_database_url, MIGRATOR)


@pytest.fixture
def db(empty_database_url: str) -> Iterator[Engine]:
    """An engine on the same database, with all rights."""
    created = engine.create(empty_database_url, make_settings(), threads=1)
    yield created
    created.dispose()


def test_upgrade_under_load(previous: Release, coming: Release, owner_url: str, db: Engine, tmp_path: Path) -> None:
    """No call fails while the database is migrated and two services are replaced, and each call counts once."""
    assert previous.imported() == previous.directory
    assert coming.imported() == coming.directory
    migrate(previous, owner_url)
    assert previous.run("db", "grant-service", SERVICE, url=owner_url).code == 0
    service_url = as_role(owner_url, SERVICE)
    with running_balancer() as balancer, ExitStack() as held:
        fleet = Fleet(service_url, tmp_path, balancer, held)
        old = [fleet.start(previous), fleet.start(previous)]
        load = SteadyLoad(balancer.url)
        with load.running():
            load.go_on(CALLS)
            migrate(coming, owner_url)
            load.go_on(CALLS)
            for one in old:
                fleet.start(coming)
                load.go_on(CALLS)
                fleet.stop(one)
                load.go_on(CALLS)
        assert balancer.rejected == 0
    assert [line for log in fleet.logs for line in log.read_text("utf-8").splitlines() if ERROR.search(line)] == []
    assert_stored(db, load)
    assert_folded(db)
    verified = coming.run("verify", "--all", url=service_url)
    assert (verified.code, verified.out.split(":")[0]) == (0, "No difference"), verified.out + verified.err


def migrate(release: Release, url: str) -> None:
    """Migrate the database as a pipeline does."""
    done = release.run("db", "upgrade", url=url)
    assert done.code == 0, done.err
