"""From the first start to the last one's leaving."""

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


def test_the_second_start_finds_the_data_of_the_first(new_dir: Path) -> None:
    """What was committed is there after a stop and a start, and nothing runs in between or afterwards."""
    with running(new_dir, bin_dir=None, start_timeout=TIMEOUT) as server:
        ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert pid(new_dir) is None
    with running(new_dir, bin_dir=None, start_timeout=TIMEOUT) as server:
        assert ask(server, "SELECT answer FROM kept") == 42
        assert ask(server, "SHOW fsync") == "on"
        assert ask(server, "SHOW data_checksums") == "on"
        assert ask(server, "SELECT current_user || ' ' || current_database()") == "oo_ml oo_ml"
    assert pid(new_dir) is None


def test_it_says_in_one_line_where_the_data_is(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line of the log names the directory."""
    with caplog.at_level(logging.INFO), running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False):
        pass
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"PostgreSQL keeps its data in {data_dir}/postgres and its log in {data_dir}/postgres.log"]


def test_only_the_last_one_to_leave_stops_the_server(data_dir: Path, use: Callable[..., User]) -> None:
    """The process that started it may go first: those who joined keep the server, and the last of them stops it."""
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


def test_many_may_come_and_leave_at_once(new_dir: Path, use: Callable[..., User]) -> None:
    """Six processes that meet at the first start share one server, and none is left when they have gone together."""
    users = [use(new_dir) for _ in range(6)]
    servers = {user.server() for user in users}
    assert len(servers) == 1
    assert ask(servers.pop(), "SELECT 1") == 1
    for user in users:
        user.dismiss()
    assert [user.process.wait(TIMEOUT) for user in users] == [0] * 6
    assert pid(new_dir) is None


def test_a_process_may_use_it_twice(data_dir: Path) -> None:
    """An inner use in the same process does not stop the server under the outer one."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as outer:
        with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as inner:
            assert inner == outer
        assert ask(outer, "SELECT 1") == 1
    assert pid(data_dir) is None


def test_an_error_of_the_caller_stops_it_and_passes_through(data_dir: Path) -> None:
    """An OSError in the body is the body's: it is not taken for a failure of the server."""
    with (
        pytest.raises(FileNotFoundError, match="mine"),
        running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False),
    ):
        raise FileNotFoundError("mine")
    assert pid(data_dir) is None


def test_waiting_for_another_start_is_bounded(new_dir: Path) -> None:
    """Whoever finds the start lock taken for too long is told so."""
    new_dir.mkdir()
    with (new_dir / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (
            pytest.raises(EmbeddedPostgresError, match="Another process is starting or stopping"),
            running(new_dir, bin_dir=None, start_timeout=0.1),
        ):
            pass


def test_everything_is_closed_to_others(data_dir: Path) -> None:
    """The data and the socket are in directories of mode 700, locks and log are files of mode 600."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert server.socket_dir == data_dir / "socket"
        directories = {path.name: _mode(path) for path in data_dir.iterdir() if path.is_dir()}
        files = {_mode(path) for path in data_dir.iterdir() if path.is_file()}
    assert directories == {"postgres": 0o700, "socket": 0o700}
    assert files == {0o600}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux shows who listens")
def test_nothing_listens_on_tcp(data_dir: Path) -> None:
    """No socket that the server has open is a TCP socket."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        sockets = {str(file.readlink()) for file in Path(f"/proc/{pid(data_dir)}/fd").iterdir()}
        tables = [Path("/proc/net/unix"), Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
        unix, tcp, tcp6 = ({f"socket:[{word}]" for word in table.read_text().split()} for table in tables)
        assert ask(server, "SHOW listen_addresses") == ""
    assert sockets & unix
    assert not sockets & (tcp | tcp6)


@pytest.mark.parametrize("name", ["100% ä+b&c='d' #? \"e\" ", "a, b"])
def test_any_name_of_the_directory_will_do(own_dir: Path, base: Path, name: str) -> None:
    """Neither PostgreSQL's list of directories nor the URL trips over an odd name."""
    own_dir.rename(base / name)
    with running(base / name, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert ask(server, "SELECT 1") == 1
        engine = create_engine(server.url)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
        engine.dispose()


def test_a_long_path_gets_a_short_socket(own_dir: Path, base: Path, use: Callable[..., User]) -> None:
    """Where a socket's address can't hold the path: a private directory, found by joiners and removed at the end."""
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


def test_the_environment_of_the_caller_does_not_matter(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PG* variables that are meant for another server do not lead this one astray."""
    for name, value in {"PGDATA": "/nowhere", "PGPORT": "1", "PGHOST": "/nowhere", "PGSERVICE": "other"}.items():
        monkeypatch.setenv(name, value)
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        monkeypatch.delenv("PGSERVICE")
        assert ask(server, "SHOW port") == "5432"


def test_a_big_log_is_put_aside(data_dir: Path) -> None:
    """A start begins a new log when the old one has grown past some megabytes; one old one is kept."""
    log = data_dir / "postgres.log"
    os.truncate(log, 9 * 2**20)
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False):
        pass
    assert (data_dir / "postgres.log.1").stat().st_size == 9 * 2**20
    assert log.stat().st_size < 2**20


def test_its_group_is_not_the_terminals(data_dir: Path) -> None:
    """Ctrl-C reaches the service, which then stops the server: the server is in a session of its own."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False):
        found = pid(data_dir)
        assert found is not None
        assert os.getsid(found) == found != os.getsid(0)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
