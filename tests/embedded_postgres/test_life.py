"""Life of the private server, from the first start to its stop."""

import fcntl
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from oo_ml.embedded_postgres import running
from oo_ml.errors import EmbeddedPostgresError
from tests.embedded_postgres.processes import TIMEOUT, User, ask, pid


def test_restart(new_dir: Path) -> None:
    """Committed data is there after a stop and a start, and no server runs in between or afterwards."""
    with running(new_dir, bin_dir=None, start_timeout=TIMEOUT) as server:
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert pid(new_dir) is None
    with running(new_dir, bin_dir=None, start_timeout=TIMEOUT) as server:
        assert ask(server, "SELECT answer FROM kept") == 42
        assert ask(server, "SHOW fsync") == "on"
        assert ask(server, "SHOW data_checksums") == "on"
        assert ask(server, "SELECT current_user || ' ' || current_database()") == "oo_ml oo_ml"
    assert pid(new_dir) is None


def test_log_line(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line of the log names the directory of the data."""
    with caplog.at_level(logging.INFO), running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False):
        pass
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"PostgreSQL keeps its data in {data_dir}/postgres and its log in {data_dir}/postgres.log"]


def test_last_process_stops_the_server(data_dir: Path, use: Callable[..., User]) -> None:
    """The server runs until the last process leaves, even if the process that started it leaves first."""
    starter = use(data_dir)
    server = starter.server()
    first = pid(data_dir)
    joiner = use(data_dir)
    assert joiner.server() == server
    starter.leave()
    assert pid(data_dir) == first
    assert ask(server, "SELECT 1") == 1
    joiner.leave()
    assert pid(data_dir) is None


def test_concurrent_processes(new_dir: Path, use: Callable[..., User]) -> None:
    """Six processes that start at the same time share one server; it stops when all of them have left."""
    users = [use(new_dir) for _ in range(6)]
    servers = {user.server() for user in users}
    assert len(servers) == 1
    assert ask(servers.pop(), "SELECT 1") == 1
    for user in users:
        user.dismiss()
    assert [user.process.wait(TIMEOUT) for user in users] == [0] * 6
    assert pid(new_dir) is None


def test_nested_use(data_dir: Path) -> None:
    """An inner use in the same process does not stop the server of the outer one."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as outer:
        with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as inner:
            assert inner == outer
        assert ask(outer, "SELECT 1") == 1
    assert pid(data_dir) is None


def test_error_of_the_caller(data_dir: Path) -> None:
    """An OSError of the caller stops the server and passes through unchanged."""
    with (
        pytest.raises(FileNotFoundError, match="mine"),
        running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False),
    ):
        raise FileNotFoundError("mine")
    assert pid(data_dir) is None


def test_timeout_of_the_start_lock(new_dir: Path) -> None:
    """If another process holds the start lock for too long, the error says so."""
    new_dir.mkdir()
    with (new_dir / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (
            pytest.raises(EmbeddedPostgresError, match="Another process is starting or stopping"),
            running(new_dir, bin_dir=None, start_timeout=0.1),
        ):
            pass


def test_file_modes(data_dir: Path) -> None:
    """Directories have mode 700; locks and log have mode 600."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert server.socket_dir == data_dir / "socket"
        directories = {path.name: _mode(path) for path in data_dir.iterdir() if path.is_dir()}
        files = {_mode(path) for path in data_dir.iterdir() if path.is_file()}
    assert directories == {"postgres": 0o700, "socket": 0o700}
    assert files == {0o600}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux shows who listens")
def test_no_tcp(data_dir: Path) -> None:
    """The server has no TCP socket."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        sockets = {str(file.readlink()) for file in Path(f"/proc/{pid(data_dir)}/fd").iterdir()}
        tables = [Path("/proc/net/unix"), Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
        unix, tcp, tcp6 = ({f"socket:[{word}]" for word in table.read_text().split()} for table in tables)
        assert ask(server, "SHOW listen_addresses") == ""
    assert sockets & unix
    assert not sockets & (tcp | tcp6)


@pytest.mark.parametrize("name", ["100% ä+b&c='d' #? \"e\" ", "a, b"])
def test_special_characters_in_the_path(own_dir: Path, base: Path, name: str) -> None:
    """Special characters in the name of the directory work in PostgreSQL's settings and in the URL."""
    own_dir.rename(base / name)
    with running(base / name, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert ask(server, "SELECT 1") == 1
        engine = create_engine(server.url)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
        engine.dispose()


def test_long_path(own_dir: Path, base: Path, use: Callable[..., User]) -> None:
    """If the path is too long for a socket, the server uses a private directory, which the last process removes."""
    deep = base.joinpath(*["deep" * 10] * 4)
    deep.parent.mkdir(parents=True)
    own_dir.rename(deep)
    starter, joiner = use(deep), use(deep)
    server = starter.server()
    assert joiner.server() == server
    assert not server.socket_dir.is_relative_to(base)
    assert _mode(server.socket_dir) == 0o700
    assert ask(server, "SELECT 1") == 1
    starter.leave()
    assert server.socket_dir.exists()
    joiner.leave()
    assert not server.socket_dir.exists()


def test_environment_variables(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PG* variables that are set for another server have no effect."""
    for name, value in {"PGDATA": "/nowhere", "PGPORT": "1", "PGHOST": "/nowhere", "PGSERVICE": "other"}.items():
        monkeypatch.setenv(name, value)
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        monkeypatch.delenv("PGSERVICE")
        assert ask(server, "SHOW port") == "5432"


def test_log_rotation(data_dir: Path) -> None:
    """If the log is larger than some megabytes, a start renames it and begins a new one; one old log is kept."""
    log = data_dir / "postgres.log"
    os.truncate(log, 9 * 2**20)
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False):
        pass
    assert (data_dir / "postgres.log.1").stat().st_size == 9 * 2**20
    assert log.stat().st_size < 2**20


def test_ctrl_c(data_dir: Path) -> None:
    """The server runs in a session of its own, so Ctrl-C in the terminal does not reach it."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False):
        found = pid(data_dir)
        assert found is not None
        assert os.getsid(found) == found != os.getsid(0)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
