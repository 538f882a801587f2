"""One PostgreSQL for the whole run, shared by its processes; a migrated database of its own for each test.

As in production three roles work with a database: one migrates and owns the tables, one runs the service, one reads
schema analytics. Tests themselves look at tables, and tamper with them, as a superuser.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from pytest_postgresql import factories
from sqlalchemy import Engine, make_url

from oo_ml import embedded_postgres
from oo_ml.services.analytics import roles
from oo_ml.settings import Settings
from oo_ml.storage.postgres import engine
from oo_ml.storage.schema import migrate
from tests.commands import processes_in
from tests.gateway import Gateway, running_gateway
from tests.run_directory import new_run_directory, run_directory
from tests.serving import Service, serving
from tests.waiting import until

# A busy machine must not make a test fail.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# Settings of whoever runs the tests are not the tests'.
for _variable in map(Settings.variable, Settings.model_fields):
    os.environ.pop(_variable, None)


MIGRATOR, SERVICE, ANALYST = "migrator", "service", "analyst"
ROLES = (MIGRATOR, SERVICE, ANALYST)


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a directory for its servers' data, which goes when all its processes have ended."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what it puts in the background so, and commands of the tests would not hear of Ctrl-C either.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        held = ExitStack()
        held.enter_context(new_run_directory())
        config.add_cleanup(held.close)


@dataclass(frozen=True, slots=True)
class _Server:
    """What pytest-postgresql asks of a server."""

    host: str
    port: int
    user: str
    password: None = None
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: None = None


@pytest.fixture(scope="session")
def pg_server() -> Iterator[_Server]:
    """A server that the first test process starts and the last one stops; it forgets what it should sync."""
    data_dir = run_directory() / "pg"
    with embedded_postgres.running(data_dir, bin_dir=None, start_timeout=60, fsync=False) as server:
        # The superuser: whoever clones the template has to send autovacuum away from it first.
        superuser = _Server(str(server.socket_dir), server.port, "postgres")
        with psycopg.connect(_url(superuser.host, superuser.port, superuser.user, "postgres"), autocommit=True) as one:
            # The log is never read again, and memory is what it takes up.
            one.execute("ALTER SYSTEM SET max_wal_size = '128MB'")
            one.execute("SELECT pg_reload_conf()")
            for role in ROLES:
                # Another process of the run may have made it.
                with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                    one.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(role)))
        yield superuser


def _migrate(*, host: str, port: int, user: str, dbname: str, **_: object) -> None:
    with psycopg.connect(_url(host, port, user, dbname), autocommit=True) as superuser:
        allow_migrations(superuser)
    owner = _url(host, port, MIGRATOR, dbname)
    migrate.upgrade(owner, make_settings())
    roles.grant_service(owner, make_settings(), SERVICE)
    roles.grant_analyst(owner, make_settings(), ANALYST)


def allow_migrations(superuser: psycopg.Connection[Any]) -> None:
    """Give the migrating role the one right that it needs: to create schemas in this database."""
    name = Identifier(superuser.info.dbname)
    superuser.execute(SQL("GRANT CREATE ON DATABASE {} TO {}").format(name, Identifier(MIGRATOR)))


postgresql_noproc = factories.postgresql_noproc(depends_on="pg_server", load=[_migrate])
postgresql = factories.postgresql("postgresql_noproc")
empty_postgresql_noproc = factories.postgresql_noproc(depends_on="pg_server", dbname="empty")
empty_postgresql = factories.postgresql("empty_postgresql_noproc")
other_postgresql_noproc = factories.postgresql_noproc(depends_on="pg_server", dbname="other", load=[_migrate])
other_postgresql = factories.postgresql("other_postgresql_noproc")


@pytest.fixture
def database_url(postgresql: psycopg.Connection[Any]) -> str:
    """The address of a migrated database that no other test sees, for a superuser."""
    return url_of(postgresql)


@pytest.fixture
def service_url(database_url: str) -> str:
    """The same for the service's role."""
    return as_role(database_url, SERVICE)


@pytest.fixture
def analyst_url(database_url: str) -> str:
    """The same for an analyst's role."""
    return as_role(database_url, ANALYST)


@pytest.fixture
def empty_database_url(empty_postgresql: psycopg.Connection[Any]) -> str:
    """The address of a database before the first migration."""
    return url_of(empty_postgresql)


@pytest.fixture
def other_database_url(other_postgresql: psycopg.Connection[Any]) -> str:
    """The address of one more migrated database."""
    return url_of(other_postgresql)


@pytest.fixture
def db(service_url: str) -> Iterator[Engine]:
    """The service's own kind of engine, with the service's role, on a migrated database."""
    created = engine.create(service_url, make_settings(), threads=8)
    yield created
    created.dispose()


@pytest.fixture
def admin(database_url: str) -> Iterator[Engine]:
    """The same for a superuser, who may change the tables themselves."""
    created = engine.create(database_url, make_settings(), threads=8)
    yield created
    created.dispose()


@pytest.fixture
def other_db(other_database_url: str) -> Iterator[Engine]:
    """The service's engine on the other database."""
    created = engine.create(as_role(other_database_url, SERVICE), make_settings(), threads=8)
    yield created
    created.dispose()


Serve = Callable[..., Service]


@pytest.fixture
def serve(service_url: str) -> Iterator[Serve]:
    """Start services over HTTP, each with settings of its own; all of them stop after the test."""
    with ExitStack() as running:

        def start(**overrides: Any) -> Service:  # noqa: ANN401 - settings have many types
            one: AbstractContextManager[Service] = serving(make_settings(**overrides), service_url)
            return running.enter_context(one)

        yield start


@pytest.fixture
def service(serve: Serve) -> Service:
    """The service, over HTTP, on a migrated database; it never explores."""
    return serve(epsilon=0)


@pytest.fixture
def second_service(serve: Serve) -> Service:
    """One more on the same database: one alone makes a person's calls wait in their lane, not for each other's rows."""
    return serve(epsilon=0)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A language model gateway of this test's own, which does what it is told to."""
    with running_gateway() as running:
        yield running


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home with a path short enough for a socket; no server in it outlives the test."""
    directory = Path(tempfile.mkdtemp(prefix="oo-ml-home-", dir=run_directory()))
    yield directory
    for process in processes_in(directory):
        with suppress(ProcessLookupError):  # its parent was faster
            os.kill(process, signal.SIGQUIT)
    until(lambda: not processes_in(directory))
    shutil.rmtree(directory)


def make_settings(**overrides: Any) -> Settings:  # noqa: ANN401
    """Settings of a test: never this machine's, and too patient to be hurried by a busy machine."""
    return Settings(
        **{
            "data_dir": Path("/nonexistent"),
            "lock_timeout": 20,
            # Whoever waits for a row is seen to wait; tests/execution/test_lanes.py has the real one.
            "lane_lock_timeout": overrides.get("lock_timeout", 20),
            "statement_timeout": 20,
            "request_timeout": 20,
            "database_connect_timeout": 10,
            "upkeep_interval": 0,
            **overrides,
        }
    )


def url_of(connection: psycopg.Connection[Any]) -> str:
    """Return the address of the database that a connection leads to."""
    info = connection.info
    return _url(info.host, info.port, info.user, info.dbname)


def as_role(url: str, role: str) -> str:
    """Return the address for another role."""
    return make_url(url).set(username=role).render_as_string()


def _url(host: str, port: int, user: str, dbname: str) -> str:
    return f"postgresql://{user}@/{dbname}?host={host}&port={port}"
