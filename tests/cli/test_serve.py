"""`oo-ml serve`: start, signals, and the private PostgreSQL."""

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests import calls
from tests.commands import oo_ml, oo_ml_process, processes_in, run_serve, start
from tests.embedded_postgres.processes import kill_server, pid
from tests.fifos import held_reader
from tests.waiting import PATIENCE, until


def test_private_database(home: Path, tmp_path: Path) -> None:
    """Without settings, a private PostgreSQL in the home is started, migrated, and stopped on a signal."""
    data = home / ".local/share/oo-ml"
    with run_serve(tmp_path / "log", HOME=home) as service:
        assert service.client.get("/health").json() == {"ok": True}
        assert service.client.get("/readyz").json() == {"ok": True}
        assert service.client.post("/score", json=calls.score()).json()["tip_id"] == "t1"
        lines = service.log.read_text("utf-8").splitlines()
        assert sum(f"PostgreSQL keeps its data in {data}/postgres" in line for line in lines) == 1
        assert processes_in(data) >= {pid(data)}
        assert service.stop(signal.SIGTERM) == 0
        assert "Application shutdown complete" in service.log.read_text("utf-8")
    assert not (data / "postgres/postmaster.pid").exists()
    assert processes_in(data) == set()


def test_commands_beside_a_service(home: Path, tmp_path: Path) -> None:
    """Commands use the running server and leave it running; without a service they start one and stop it again."""
    assert oo_ml_process("db", "current", OO_ML_DATA_DIR=home).out.startswith("empty (")
    assert processes_in(home) == set()
    with run_serve(tmp_path / "log", OO_ML_DATA_DIR=home) as service:
        server = pid(home)
        listing = oo_ml_process("prompts", "list", OO_ML_DATA_DIR=home)
        assert (listing.code, listing.err) == (0, "")
        assert "v2-mentor" in listing.out
        assert pid(home) == server
        assert service.client.post("/score", json=calls.score()).status_code == 200
        # A closed terminal stops the service too.
        assert service.stop(signal.SIGHUP) == 0
    assert processes_in(home) == set()


@pytest.mark.slow
def test_sigkill(home: Path, tmp_path: Path) -> None:
    """After SIGKILL the next service uses the server that was left, or recovers its data if it was killed too."""
    with run_serve(tmp_path / "first", OO_ML_DATA_DIR=home) as service:
        service.client.post("/score", json=calls.score())
        service.stop(signal.SIGKILL)
    orphan = pid(home)
    assert orphan is not None
    with run_serve(tmp_path / "second", OO_ML_DATA_DIR=home) as service:
        assert pid(home) == orphan
        service.client.post("/score", json=calls.score())
        service.stop(signal.SIGKILL)
        kill_server(home)
    with run_serve(tmp_path / "third", OO_ML_DATA_DIR=home) as service:
        history = service.client.get("/features/ada").json()["history"]
        assert [entry["tip_id"] for entry in history] == ["t1", "t1"]
        assert service.stop(signal.SIGINT) == 0
    assert processes_in(home) == set()


def test_port_in_use(home: Path) -> None:
    """A port in use is one line with the address and exit code 1, and PostgreSQL is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = oo_ml_process("serve", "--port", port, OO_ML_DATA_DIR=home)
    assert done.code == 1
    assert (
        done.err.splitlines()[-1]
        == f"error: The service can't listen on 127.0.0.1, port {port}: address already in use"
    )
    assert "address already in use" in done.err
    assert "Traceback" not in done.err
    assert processes_in(home) == set()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LITELLM_URL", "nonsense"),
        ("LITELLM_MASTER_KEY", "sésame"),
        ("OO_ML_EPSILON", "sesame"),
    ],
)
def test_invalid_settings(home: Path, variable: str, value: str) -> None:
    """An invalid setting is one line with its name and without its value, before anything is started."""
    variables: dict[str, Any] = {"OO_ML_DATA_DIR": home, variable: value}
    done = oo_ml("serve", "--port", "0", **variables)
    assert list(home.iterdir()) == []
    assert (done.code, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"error: {variable}")
    assert value not in line


def test_named_database_without_migrations(
    empty_postgresql: psycopg.Connection[Any], empty_database_url: str, tmp_path: Path
) -> None:
    """A database that is named is never migrated: calls are a 503, and the log says what to do."""
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=empty_database_url) as service:
        answer = service.client.post("/score", json=calls.score())
        assert (answer.status_code, answer.json()["code"]) == (503, "schema_not_ready")
        assert service.client.get("/readyz").status_code == 503
        assert "run `oo-ml db upgrade`" in service.log.read_text("utf-8")
        assert service.stop(signal.SIGTERM) == 0
    tables = empty_postgresql.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_unreachable_database(tmp_path: Path) -> None:
    """Without its database the service starts and answers 503."""
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=f"postgresql://u@/d?host={tmp_path}") as service:
        answer = service.client.post("/score", json=calls.score())
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert service.client.get("/livez").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signal_during_start(home: Path, number: signal.Signals) -> None:
    """A signal during the start leaves no process behind."""
    process = start("serve", "--port", "0", OO_ML_DATA_DIR=home)
    until(lambda: processes_in(home) != set())
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    until(lambda: processes_in(home) == set())


@pytest.mark.parametrize("processes", [1, 2])
def test_signal_during_import(processes: int, tmp_path: Path) -> None:
    """A signal while a process imports the application ends it at once, not after its start."""
    secret = tmp_path / "session-key"
    os.mkfifo(secret)
    process = start(
        "serve",
        "--port",
        "0",
        OO_ML_DATABASE_URL=f"postgresql://u@/d?host={tmp_path}",
        OO_ML_SESSION_KEY_FILE=secret,
        OO_ML_PROCESSES=processes,
    )
    log = process.stderr
    assert log is not None
    try:
        # The command reads its settings once itself.
        secret.write_text("a-session-key-of-the-tests", "utf-8")
        until(lambda: "Calls need no key" in log.readline())
        # The process that serves reads them again while it imports.
        with held_reader(secret, lambda: process.pid):
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        _, rest = process.communicate()
    assert "Started server process" not in rest


@pytest.mark.slow
def test_several_processes(home: Path, tmp_path: Path) -> None:
    """Processes share one address; a killed process is replaced and costs no later call; a signal ends all of them."""
    with run_serve(tmp_path / "log", OO_ML_DATA_DIR=home, OO_ML_PROCESSES=2) as service:
        until(lambda: service.log.read_text("utf-8").count("Application startup complete") == 2)
        [first, second] = workers(service.process.pid)
        os.kill(first, signal.SIGKILL)
        until(lambda: service.log.read_text("utf-8").count("Application startup complete") == 3)
        assert second in workers(service.process.pid)
        assert len(workers(service.process.pid)) == 2
        for _ in range(4):
            # A connection each, so that either may answer.
            assert httpx.post(f"{service.client.base_url}/score", json=calls.score()).status_code == 200
        assert service.client.get("/stats/ada").json()["pulls"] == 4
        assert service.stop(signal.SIGHUP) == 0
        assert workers(service.process.pid) == []
    assert processes_in(home) == set()


@pytest.mark.slow
def test_killed_supervisor(tmp_path: Path) -> None:
    """The processes end with their supervisor even if it is killed, so that the port is free for the next service."""
    url = f"postgresql://u@/d?host={tmp_path}"
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=url, OO_ML_PROCESSES=2) as service:
        until(lambda: service.log.read_text("utf-8").count("Application startup complete") == 2)
        serving = workers(service.process.pid)
        assert len(serving) == 2
        service.process.kill()
        until(lambda: not any(Path("/proc", str(process)).exists() for process in serving))


def workers(parent: int) -> list[int]:
    """Return the processes that `parent` has started to serve."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int((process / "stat").read_text("ascii").rpartition(")")[2].split()[1]) == parent:
                found += [int(process.name)] if b"spawn_main" in (process / "cmdline").read_bytes() else []
    return sorted(found)


@pytest.mark.parametrize("processes", [1, 2])
def test_invalid_database_url(processes: int) -> None:
    """An invalid OO_ML_DATABASE_URL ends the command before it starts any process."""
    done = oo_ml_process("serve", "--port", "0", OO_ML_DATABASE_URL="mysql://u:sesame@h/d", OO_ML_PROCESSES=processes)
    assert (done.code, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert line.startswith("error: OO_ML_DATABASE_URL")
    assert "sesame" not in line
