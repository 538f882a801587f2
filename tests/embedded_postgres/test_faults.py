"""What a kill, a crash or a wrong directory leaves behind, and how the next start deals with it."""

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
from tests.embedded_postgres.processes import TIMEOUT, User, ask, kill_server, pid
from tests.waiting import until

ONE_ROW = "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS answer"
THE_ROW = "SELECT answer FROM kept"


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[str]]:
    """A process that has nothing to do with PostgreSQL."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_the_server_of_a_killed_process_is_joined_and_then_stopped(data_dir: Path, use: Callable[..., User]) -> None:
    """After kill -9 of its only user the server runs on; the next start finds that one, and stops it when it leaves."""
    user = use(data_dir)
    ask(user.server(), ONE_ROW)
    orphan = pid(data_dir)
    user.kill()
    assert pid(data_dir) == orphan
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert pid(data_dir) == orphan
        assert ask(server, THE_ROW) == 42
    assert pid(data_dir) is None


def test_a_killed_server_recovers(data_dir: Path, use: Callable[..., User]) -> None:
    """After kill -9 of both, with a transaction open, the next start has what was committed and only that."""
    user = use(data_dir)
    server = user.server()
    ask(server, ONE_ROW)
    with psycopg.connect(server.url) as connection:
        connection.execute("UPDATE kept SET answer = 0")
        user.kill()
        kill_server(data_dir)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert ask(server, THE_ROW) == 42
    assert pid(data_dir) is None


def test_a_killed_server_is_started_again_beside_its_living_user(data_dir: Path, use: Callable[..., User]) -> None:
    """The dead server stays in the table of processes until its parent ends; a newcomer is not misled by that."""
    witness = use(data_dir)
    ask(witness.server(), ONE_ROW)
    kill_server(data_dir)
    newcomer = use(data_dir)
    assert ask(newcomer.server(), THE_ROW) == 42
    newcomer.leave()
    assert pid(data_dir) is not None
    witness.leave()
    assert pid(data_dir) is None


def test_a_number_that_has_gone_to_another_process_is_no_server(
    data_dir: Path, use: Callable[..., User], stranger: subprocess.Popen[str]
) -> None:
    """In a container that starts again the server's number is soon another's, which is neither joined nor stopped."""
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


def test_clients_that_stay_do_not_keep_the_server(data_dir: Path) -> None:
    """A server that somebody has told to wait for its clients stops all the same when its last user leaves."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        found = pid(data_dir)
        assert found is not None
        connection = psycopg.connect(server.url)
        os.kill(found, signal.SIGTERM)
    connection.close()
    assert pid(data_dir) is None


def test_a_server_that_hangs_is_reported(
    data_dir: Path, use: Callable[..., User], caplog: pytest.LogCaptureFixture
) -> None:
    """A frozen server stops nobody: leaving is bounded, and what was left running is said."""
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


def test_a_first_start_killed_halfway_does_not_block_the_next(new_dir: Path, use: Callable[..., User]) -> None:
    """Creating it may be cut off anywhere: half a database is never taken for one."""
    user = use(new_dir)
    until((new_dir / "postgres.unfinished" / "global").exists)
    user.kill()
    assert not (new_dir / "postgres").exists()
    with running(new_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        assert ask(server, "SELECT 1") == 1
    assert not (new_dir / "postgres.unfinished").exists()


def test_a_private_socket_directory_outlives_a_crash(own_dir: Path, base: Path, use: Callable[..., User]) -> None:
    """The one that a killed server used is used again, and removed in the end."""
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


def test_a_copy_of_a_running_directory_is_another_server(data_dir: Path, base: Path) -> None:
    """A copied postmaster.pid names the original: it is neither joined nor disturbed."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as original:
        ask(original, ONE_ROW)
        copy = base / "copy"
        shutil.copytree(data_dir / "postgres", copy / "postgres")
        with running(copy, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
            ask(server, "DROP TABLE kept")
        assert ask(original, THE_ROW) == 42


def test_data_of_another_version_is_refused(own_dir: Path) -> None:
    """The message names both versions; the data is left alone."""
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


def test_a_server_that_does_not_start_shows_its_log(own_dir: Path) -> None:
    """The last lines of the log are in the error."""
    with (own_dir / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with (
        pytest.raises(EmbeddedPostgresError, match=r"did not start(.|\n)*no_such_setting"),
        running(own_dir, bin_dir=None, start_timeout=TIMEOUT),
    ):
        pass


def test_a_file_in_the_way_is_an_error_of_its_own(base: Path) -> None:
    """What the system refuses is told as the private PostgreSQL's trouble, with the directory's name."""
    (base / "data").write_text("not a directory")
    with (
        pytest.raises(EmbeddedPostgresError, match=f"{base}/data"),
        running(base / "data", bin_dir=None, start_timeout=TIMEOUT),
    ):
        pass


def test_a_directory_without_the_programs_is_refused(new_dir: Path, base: Path) -> None:
    """A directory of programs that was asked for is never passed over for another."""
    with (
        pytest.raises(EmbeddedPostgresError, match=f"{base} does not hold initdb, postgres, pg_isready"),
        running(new_dir, bin_dir=base, start_timeout=TIMEOUT),
    ):
        pass
    assert not new_dir.exists()


def test_without_the_wheel_an_installed_server_is_used(
    base: Path, bin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PATH is asked first, links in it are followed; then Debian's directories, the newest version first."""
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setattr(binaries, "_DEBIAN", base)
    monkeypatch.setenv("PATH", str(base))
    for version in ("9.6", "17", "100"):
        (base / version).mkdir()
        (base / version / "bin").symlink_to(bin_dir)
    assert binaries.find(None) == base / "100" / "bin"
    (base / "postgres").symlink_to(bin_dir / "postgres")
    assert binaries.find(None) == bin_dir


def test_without_any_server_it_says_what_to_do(new_dir: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way out is in the message."""
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setattr(binaries, "_DEBIAN", base)
    monkeypatch.setenv("PATH", str(base))
    with (
        pytest.raises(EmbeddedPostgresError, match=r"embedded-postgres.*OO_ML_POSTGRES_BIN_DIR.*OO_ML_DATABASE_URL"),
        running(new_dir, bin_dir=None, start_timeout=TIMEOUT),
    ):
        pass
