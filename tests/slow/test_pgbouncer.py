"""The service behind a real PgBouncer in transaction mode, in sessions that another client has left in disorder."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Engine, text

from oo_ml.domain.policies import LINUCB
from oo_ml.errors import LostStatementError
from oo_ml.execution import retry
from oo_ml.storage.postgres import engine
from oo_ml.storage.schema.partitions import month_of
from tests import calls
from tests.commands import Done, oo_ml_process
from tests.conftest import MIGRATOR, SERVICE, as_role, make_settings
from tests.every_call import make_every_call
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.gateway import Gateway
from tests.rows import assert_folded
from tests.services.sample_users import parse_export
from tests.serving import Service, serving
from tests.slow.pgbouncer import POOL_SIZE, Bouncer, all_sessions, running_bouncer
from tests.superuser import tamper
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.slow

UNPREPARED: Final[dict[str, Any]] = {"database_prepare_threshold": -1}

# What the service's role begins a session with.
OF_THE_ROLE: Final = {"search_path": "elsewhere", "timezone": "Asia/Kathmandu"}
# What another client has set in the sessions of the pool.
LEFT_BEHIND: Final = {"search_path": "elsewhere", "lock_timeout": "1ms", "jit": "on", "plan_cache_mode": "auto"}

RELATIONS: Final = """
    SELECT DISTINCT c.relname
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('oo_ml', 'analytics', 'rollup') AND c.relkind IN ('r', 'p', 'v', 'S')
"""
FUNCTIONS: Final = """
    SELECT p.proname, pg_get_function_identity_arguments(p.oid)
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('oo_ml', 'analytics', 'rollup')
"""

CLIENTS: Final = 8
ROUNDS: Final = 30
USERS: Final = 10


@pytest.fixture
def bouncer(postgresql: psycopg.Connection[Any]) -> Iterator[Bouncer]:
    """PgBouncer in front of the tests' server; it ends before the test's database does."""
    with running_bouncer(postgresql.info.host, postgresql.info.port) as running:
        yield running


@pytest.fixture
def url(postgresql: psycopg.Connection[Any], service_url: str, bouncer: Bouncer) -> Iterator[str]:
    """The address for the service's role; all sessions there are in disorder, from before the test until after it."""
    make_decoys(postgresql)
    through = bouncer.url_through(service_url)
    with all_sessions(through) as sessions:
        for session in sessions:
            for name, value in LEFT_BEHIND.items():
                session.execute("SELECT set_config(%s, %s, false)", [name, value])
        disorder = [read_session_state(session) for session in sessions]
        for session in sessions:
            session.execute("COMMIT")
    yield through
    with all_sessions(through) as sessions:
        assert sorted(map(read_session_state, sessions)) == sorted(disorder)


def make_decoys(superuser: psycopg.Connection[Any]) -> None:
    """Make a schema with the name of each table, view, sequence and function, to which the service has no right."""
    superuser.execute("CREATE SCHEMA elsewhere")
    superuser.execute(SQL("GRANT USAGE ON SCHEMA elsewhere TO PUBLIC"))
    for (name,) in superuser.execute(RELATIONS).fetchall():
        superuser.execute(SQL("CREATE TABLE elsewhere.{} ()").format(Identifier(name)))
    for name, arguments in superuser.execute(FUNCTIONS).fetchall():
        decoy = SQL("CREATE FUNCTION elsewhere.{}({}) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''decoy''; END'")
        superuser.execute(decoy.format(Identifier(name), SQL(arguments)))
    for name, value in OF_THE_ROLE.items():
        of_the_role = SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}")
        database = Identifier(superuser.info.dbname)
        superuser.execute(of_the_role.format(Identifier(SERVICE), database, Identifier(name), value))
    superuser.commit()


def read_session_state(session: psycopg.Connection[Any]) -> tuple[int, str, str]:
    """Return which session of PostgreSQL this is, its search path and its limit of waits for locks."""
    [(pid, search_path, lock_timeout)] = session.execute(
        "SELECT pg_backend_pid(), current_setting('search_path'), current_setting('lock_timeout')"
    ).fetchall()
    return pid, search_path, lock_timeout


@pytest.fixture(autouse=True)
def no_warnings(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test whose service has logged a warning or an error: not every one is the outcome of a call."""
    yield
    logged = [record for record in caplog.get_records("call") if record.name.startswith("oo_ml")]
    assert [record.getMessage() for record in logged if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "settings",
    [{}, {"lane_one_user": True}, {"tip_prompt_version": "auto"}, {"prompt_sticky": True}],
    ids=str,
)
def test_every_call(url: str, gateway: Gateway, settings: dict[str, Any]) -> None:
    """Every call succeeds beside upkeep, whatever settings the pooled sessions have."""
    every = make_settings(litellm_url=gateway.url, upkeep_interval=0.1, **UNPREPARED, **settings)
    with serving(every, url) as service:
        make_every_call(service, gateway)


def test_times_in_utc(url: str) -> None:
    """Times are in UTC, whatever the time zone of the service's role."""
    with serving(make_settings(**UNPREPARED), url) as service:
        service.client.post("/score", json=calls.score())
        [decision] = service.client.get("/users/ada/decisions").json()["items"]
        assert decision["decided_at"].endswith("Z")
        exported = parse_export(service.client.get("/users/ada/export").content)
        assert exported["feature_history"][0]["decided_at"].endswith("Z")


def test_upkeep(url: str, db: Engine) -> None:
    """Upkeep creates a month, gives default rewards and counts days in the background."""
    month = f"oo_ml.feature_history_{month_of(datetime.now(UTC), 3):%Y_%m}"
    tamper(db, f"DROP TABLE {month}")
    with serving(make_settings(upkeep_interval=0.1, reward_wait=0.1, **UNPREPARED), url) as service:
        service.client.post("/score", json=calls.score())
        counted = "SELECT coalesce(sum(decisions), 0) FROM oo_ml.daily_reactions WHERE reaction = 'default'"
        until(lambda: scalar(db, counted) == 1)
        until(lambda: scalar(db, "SELECT to_regclass(:month) IS NOT NULL", month=month) is True)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ({}, ["2s", "3s", "4s", "off", "auto"]),
        ({"lanes": True}, ["250ms", "3s", "4s", "off", "force_generic_plan"]),
        ({"read_only": True}, ["2s", "3s", "4s", "on", "auto"]),
        ({"long": True}, ["2s", "1min", "1min", "off", "auto"]),
    ],
    ids=str,
)
def test_settings_of_transactions(url: str, kind: dict[str, bool], shown: list[str]) -> None:
    """Each transaction, of a lane too, has the limits and settings of its pool and leaves the session unchanged."""
    settings = make_settings(
        lock_timeout=2, lane_lock_timeout=0.25, statement_timeout=3, request_timeout=4, long_timeout=60, **UNPREPARED
    )
    created = engine.create(url, settings, threads=1, **kind)
    limits = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    names = (*limits, "transaction_read_only", "plan_cache_mode", "timezone", "jit", "max_parallel_workers_per_gather")
    for _ in range(POOL_SIZE + 1):
        with created.begin() as connection:
            assert [connection.scalar(text(f"SHOW {name}")) for name in names] == [*shown, "UTC", "off", "0"]
    created.dispose()


def test_locked_row_delays_one_user(url: str, db: Engine) -> None:
    """A locked row delays its own user only, although all users share one lane."""
    settings = make_settings(lanes=1, lane_lock_timeout=0.1, **UNPREPARED)
    with serving(settings, url) as service, ThreadPoolExecutor(1) as client:
        assert service.client.post("/score", json=calls.score("ada")).status_code == 200
        with holding_state(db, "ada", LINUCB) as holder:
            waiting = client.submit(service.client.post, "/score", json=calls.score("ada"))
            wait_until_blocked(db, 1)
            assert service.client.post("/score", json=calls.score("ben")).status_code == 200
            assert not waiting.done()
            holder.commit()
        assert waiting.result().status_code == 200


def test_many_clients(url: str, db: Engine) -> None:
    """Two services share the pool, decisions and rewards of the same users meet, and every state is right."""
    with ExitStack() as running, ThreadPoolExecutor(CLIENTS) as clients:
        services = [running.enter_context(serving(make_settings(**UNPREPARED), url)) for _ in range(2)]
        for done in [clients.submit(act, services, number) for number in range(CLIENTS)]:
            done.result()
    assert scalar(db, "SELECT count(*) FROM oo_ml.reward_ledger WHERE kind = 'reward'") == CLIENTS * ROUNDS * 2
    assert_folded(db)
    verified = command(url, "verify", "--all")
    assert (verified.code, verified.out.split(":")[0]) == (0, "No difference"), verified.out + verified.err


def act(services: list[Service], client: int) -> None:
    """Ask one service and tell the other: by decision, and by key."""
    for turn in range(ROUNDS):
        user_id = f"user {(client + turn) % USERS}"
        policy = ("", "/egreedy")[turn % 2]
        asked, told = (services[(client + turn + other) % 2].client for other in range(2))
        answer = asked.post(f"/score{policy}", json=calls.score(user_id)).json()
        by_decision = {name: answer[name] for name in ("decision_id", "tip_id")} | {"user_id": user_id, "reward": 0.5}
        by_key = {"Idempotency-Key": f"{client}-{turn}"}
        for body, headers in ((by_decision, {}), (calls.reward(user_id, tip_id=f"{client}-{turn}"), by_key)):
            for applied in (True, False):
                answer = told.post(f"/reward{policy}", json=body, headers=headers)
                assert (answer.status_code, answer.json().get("applied")) == (200, applied), answer.text


def test_commands(url: str) -> None:
    """The commands that work beside a service work through the pooler."""
    with serving(make_settings(**UNPREPARED), url) as service:
        service.client.post("/score", json=calls.score())
    exported = command(url, "export", "--user", "ada")
    assert parse_export(exported.out.encode())["user_id"] == "ada", exported.err
    log = ["log", "export", "--format", "csv"]
    for words in (["upkeep"], ["verify", "--user", "ada"], ["prompts", "list"], ["keys", "list"], log):
        done = command(url, *words)
        assert done.code == 0, done.err


@pytest.mark.parametrize(
    "words", [("upgrade",), ("check",), ("downgrade", "-1", "--yes"), ("grant-service", SERVICE)], ids=str
)
def test_migrations_refuse_a_pooler(database_url: str, bouncer: Bouncer, words: tuple[str, ...]) -> None:
    """Migrations refuse a pooler, because their settings and locks would stay in a session of other clients."""
    through = bouncer.url_through(as_role(database_url, MIGRATOR))
    done = command(through, "db", *words)
    assert (done.code, done.err.count("\n")) == (1, 1), done.err
    assert "OO_ML_DATABASE_URL leads to a connection pooler" in done.err
    with all_sessions(through) as sessions:
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert [session.execute(locks).fetchone() for session in sessions] == [(0,)] * POOL_SIZE


@pytest.mark.parametrize("words", [("prompts", "list"), ("serve", "--port", "0")], ids=" ".join)
def test_missing_setting(service_url: str, bouncer: Bouncer, words: tuple[str, ...]) -> None:
    """Without the setting for PgBouncer, which refuses options, a command and the service name it and end."""
    done = oo_ml_process(*words, OO_ML_DATABASE_URL=bouncer.url_through(service_url))
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("error: OO_ML_DATABASE_URL can't be used: unsupported startup parameter: options: ")
    assert "set OO_ML_DATABASE_PREPARE_THRESHOLD=-1" in last


def test_lost_statements(
    postgresql: psycopg.Connection[Any], service_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If PgBouncer is told to ignore options, a statement that is prepared in another session names the setting."""
    with running_bouncer(postgresql.info.host, postgresql.info.port, "options") as bouncer:
        url = bouncer.url_through(service_url)
        prepared = engine.create(url, make_settings(database_prepare_threshold=0), threads=1)
        with all_sessions(url) as (one, other):
            one.execute("COMMIT")
            assert ask(prepared) == [1]
            one.execute("BEGIN")
            other.execute("COMMIT")
            with pytest.raises(LostStatementError, match="set OO_ML_DATABASE_PREPARE_THRESHOLD=-1"):
                ask(prepared)
        prepared.dispose()
    assert [record.levelname for record in caplog.records if record.name.startswith("oo_ml")] == ["WARNING"]
    caplog.clear()


def ask(source: Engine) -> list[int]:
    """Run a statement as a pool does."""
    return retry.run(
        source, lambda connection, _: [connection.scalar(text("SELECT 1"))], [None], time.monotonic() + PATIENCE
    )


def test_lost_sessions(postgresql: psycopg.Connection[Any], service_url: str, bouncer: Bouncer) -> None:
    """Sessions that end behind PgBouncer, and its own restart, cost the callers nothing."""
    postgresql.autocommit = True
    ended = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'service' AND datname = %s"
    with serving(make_settings(**UNPREPARED), bouncer.url_through(service_url)) as service:
        assert call(service) == [200, 200, 200]
        postgresql.execute(ended, [postgresql.info.dbname])
        assert call(service) == [200, 200, 200]
        bouncer.stop()
        bouncer.start()
        assert call(service) == [200, 200, 200]


def call(service: Service) -> list[int]:
    """Call the lanes and the readers, and probe the service; return the statuses."""
    score = service.client.post("/score", json=calls.score())
    return [score.status_code, *(service.client.get(path).status_code for path in ("/stats/ada", "/readyz"))]


def command(url: str, *words: str) -> Done:
    """Run `oo-ml` through PgBouncer."""
    return oo_ml_process(*words, OO_ML_DATABASE_URL=url, OO_ML_DATABASE_PREPARE_THRESHOLD=-1)
