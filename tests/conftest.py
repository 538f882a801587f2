"""One PostgreSQL for the whole run, shared by its processes; a migrated database of its own for each test.

As in production three roles work with a database: one migrates and owns the tables, one runs the service, one reads
schema analytics. Tests themselves look at tables, and tamper with them, as a superuser.
"""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from pytest_postgresql import factories
from pytest_postgresql.janitor import DatabaseJanitor
from sqlalchemy import Engine, make_url

from oo_ml import embedded_postgres
from oo_ml.cli.process import prepare_process
from oo_ml.services import grants
from oo_ml.setting_choices import Auth
from oo_ml.settings import Settings
from oo_ml.storage.postgres import engine
from oo_ml.storage.schema import migrate
from tests.commands import processes_in
from tests.gateway import Gateway, running_gateway
from tests.reusable_database import ReusableDatabase
from tests.run_directory import new_run_directory, run_directory
from tests.serving import Service, serving
from tests.waiting import until

if TYPE_CHECKING:
    from tests.collector import Collector

# A test must not fail because the machine is busy, nor by chance: each run draws the same examples.
hypothesis.settings.register_profile("patient", deadline=None, derandomize=True)
hypothesis.settings.load_profile("patient")

# Settings in the environment of the test run must not reach the tests.
for _variable in list(os.environ):
    if _variable.startswith(("OO_ML_", "OTEL_", "PROMETHEUS_")):
        del os.environ[_variable]
for _variable in map(Settings.variable, Settings.model_fields):
    os.environ.pop(_variable, None)


MIGRATOR, SERVICE, ANALYST = "migrator", "service", "analyst"
ROLES = (MIGRATOR, SERVICE, ANALYST)


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a directory for its servers' data, which goes when all its processes have ended."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background jobs with SIGINT ignored, and the commands that tests start would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    prepare_process()
    if not hasattr(config, "workerinput"):
        held = ExitStack()
        held.enter_context(new_run_directory())
        config.add_cleanup(held.close)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking every imported module and collected test at each full collection."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Run three processes more than there are processors: tests also wait, for PostgreSQL and for time limits."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return (os.cpu_count() or 1) + 3


@dataclass(frozen=True, slots=True)
class _Server:
    """A server as pytest-postgresql wants it."""

    host: str
    port: int
    user: str
    password: None = None
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: None = None


@pytest.fixture(scope="session")
def pg_server() -> Iterator[_Server]:
    """A server without fsync that the first test process starts and the last one stops."""
    data_dir = run_directory() / "pg"
    with embedded_postgres.running(data_dir, bin_dir=None, start_timeout=60, fsync=False) as server:
        superuser = _Server(str(server.socket_dir), server.port, "postgres")
        with psycopg.connect(_url(superuser.host, superuser.port, superuser.user, "postgres"), autocommit=True) as one:
            # The write-ahead log takes up memory and is never read.
            one.execute("ALTER SYSTEM SET max_wal_size = '128MB'")
            # A template in use can't be cloned, and plans must not depend on when statistics were last gathered.
            one.execute("ALTER SYSTEM SET autovacuum = off")
            # No test reads this server's data after a crash of the machine.
            one.execute("ALTER SYSTEM SET synchronous_commit = off")
            one.execute("ALTER SYSTEM SET full_page_writes = off")
            one.execute("SELECT pg_reload_conf()")
            for role in ROLES:
                # Another process of the run may have created it.
                with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                    one.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(role)))
        yield superuser


def _migrate(*, host: str, port: int, user: str, dbname: str, **_: object) -> None:
    with psycopg.connect(_url(host, port, user, dbname), autocommit=True) as superuser:
        allow_migrations(superuser)
    owner = _url(host, port, MIGRATOR, dbname)
    migrate.upgrade(owner, make_settings())
    grants.grant_service(owner, make_settings(), SERVICE)
    grants.grant_analyst(owner, make_settings(), ANALYST)


def clone_database(template: Any, name: str) -> DatabaseJanitor:  # noqa: ANN401 - a server of pytest-postgresql
    """Return the context of a new database that is a clone of the template."""
    return DatabaseJanitor(
        user=template.user,
        host=template.host,
        port=template.port,
        dbname=name,
        template_dbname=template.template_dbname,
    )


def allow_migrations(superuser: psycopg.Connection[Any]) -> None:
    """Give the migrating role the one right that it needs: to create schemas in this database."""
    name = Identifier(superuser.info.dbname)
    superuser.execute(SQL("GRANT CREATE ON DATABASE {} TO {}").format(name, Identifier(MIGRATOR)))


postgresql_noproc = factories.postgresql_noproc(depends_on="pg_server", load=[_migrate])
empty_postgresql_noproc = factories.postgresql_noproc(depends_on="pg_server", dbname="empty")
empty_postgresql = factories.postgresql("empty_postgresql_noproc")


@pytest.fixture(scope="session")
def reusable_database(postgresql_noproc: Any) -> Iterator[ReusableDatabase]:  # noqa: ANN401 - of pytest-postgresql
    """A migrated database for the tests of this process, one after the other."""
    with (
        clone_database(postgresql_noproc, postgresql_noproc.dbname) as janitor,
        closing(ReusableDatabase(janitor)) as database,
    ):
        yield database


@pytest.fixture
def clean_database(reusable_database: ReusableDatabase) -> ReusableDatabase:
    """A migrated database in which no test has left anything, and which no other test uses now."""
    reusable_database.clean()
    return reusable_database


@pytest.fixture
def postgresql(clean_database: ReusableDatabase) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection to the clean database."""
    with closing(clean_database.connect()) as connection:
        yield connection


@pytest.fixture
def database_url(clean_database: ReusableDatabase) -> str:
    """The address of the clean database, for a superuser."""
    return clean_database.url


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
def other_database_url(postgresql_noproc: Any) -> Iterator[str]:  # noqa: ANN401 - of pytest-postgresql
    """The address of one more migrated database."""
    with clone_database(postgresql_noproc, f"other_{postgresql_noproc.dbname}") as other:
        yield _url(postgresql_noproc.host, postgresql_noproc.port, postgresql_noproc.user, other.dbname)


@pytest.fixture
def db(service_url: str) -> Iterator[Engine]:
    """An engine as the service creates it, with the service's role, on a migrated database."""
    created = engine.create(service_url, _patient(), threads=8)
    yield created
    created.dispose()


@pytest.fixture
def admin(database_url: str) -> Iterator[Engine]:
    """The same for a superuser, which may change the tables."""
    created = engine.create(database_url, _patient(), threads=8)
    yield created
    created.dispose()


@pytest.fixture
def other_db(other_database_url: str) -> Iterator[Engine]:
    """The service's engine on the other database."""
    created = engine.create(as_role(other_database_url, SERVICE), _patient(), threads=8)
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
    """A second service on the same database: within one service, the calls of a user queue in their lane."""
    return serve(epsilon=0)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A language model gateway for this test, which behaves as scripted."""
    with running_gateway() as running:
        yield running


@pytest.fixture
def collector() -> Iterator["Collector"]:
    """A collector for this test."""
    from tests.collector import running_collector  # noqa: PLC0415 - it takes long, and few tests need it

    with running_collector() as running:
        yield running


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home with a path short enough for a socket; no server in it outlives the test."""
    directory = Path(tempfile.mkdtemp(prefix="oo-ml-home-", dir=run_directory()))
    yield directory
    for process in processes_in(directory):
        with suppress(ProcessLookupError):  # its parent has ended it
            os.kill(process, signal.SIGQUIT)
    until(lambda: not processes_in(directory))
    shutil.rmtree(directory)


@cache
def _patient() -> Settings:
    # A test holds a transaction open while it starts commands, which takes long on a busy machine.
    return make_settings(request_timeout=600)


def make_settings(**overrides: Any) -> Settings:  # noqa: ANN401
    """Return settings for a test, which do not depend on this machine and wait long enough on a busy one."""
    return Settings(
        **{
            "data_dir": Path("/nonexistent"),
            "lock_timeout": 20,
            # Tests observe sessions that wait for a row lock; tests/execution/test_lanes.py tests the real setting.
            "lane_lock_timeout": overrides.get("lock_timeout", 20),
            "statement_timeout": 20,
            "request_timeout": 20,
            "database_connect_timeout": 10,
            "upkeep_interval": 0,
            # tests/api/access tests the keys.
            "auth": Auth.OFF,
            **overrides,
        }
    )


def url_of(connection: psycopg.Connection[Any]) -> str:
    """Return the address of a connection's database."""
    info = connection.info
    return _url(info.host, info.port, info.user, info.dbname)


def as_role(url: str, role: str) -> str:
    """Return the address for another role."""
    return make_url(url).set(username=role).render_as_string()


def _url(host: str, port: int, user: str, dbname: str) -> str:
    return f"postgresql://{user}@/{dbname}?host={host}&port={port}"
