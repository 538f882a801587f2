"""The account of the server: an ordinary user's own; for root a user namespace or another account."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from oo_ml.embedded_postgres import Server, running
from oo_ml.embedded_postgres.account import choose_account
from oo_ml.errors import EmbeddedPostgresError
from tests.embedded_postgres.processes import TIMEOUT, User, ask, pid

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")

OTHER = pwd.getpwnam("nobody")
WITHOUT_ACCOUNT = next(uid for uid in range(54321, 60000) if uid not in {entry.pw_uid for entry in pwd.getpwall()})


@pytest.fixture
def without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a system without `unshare`."""
    monkeypatch.setenv("PATH", "/nowhere")


def owner(data_dir: Path) -> int:
    """Return the owner of the data."""
    return (data_dir / "postgres" / "PG_VERSION").stat().st_uid


def use_once(data_dir: Path) -> Server:
    """Start the server, insert a row that records the use, and stop the server."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        ask(server, "CREATE TABLE IF NOT EXISTS uses ()")
        ask(server, "INSERT INTO uses DEFAULT VALUES")
    return server


def count_uses(data_dir: Path) -> object:
    """Return the number of calls of `use_once`."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        return ask(server, "SELECT count(*) FROM uses")


def test_user_namespace(base: Path, bin_dir: Path) -> None:
    """In a user namespace the data stays root's, even in a directory that other accounts can't enter."""
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    if not choose_account(closed, closed / "postgres", bin_dir).prefix:
        pytest.skip("this system forbids user namespaces")
    use_once(closed / "data")
    assert owner(closed / "data") == 0
    assert count_uses(closed / "data") == 1


@pytest.mark.usefixtures("without_namespaces")
def test_other_account(new_dir: Path) -> None:
    """Without user namespaces the server runs as `postgres` or `nobody`, who also owns the data."""
    with running(new_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False):
        assert pwd.getpwuid(owner(new_dir)).pw_name in {"postgres", "nobody"}
        process = Path(f"/proc/{pid(new_dir)}").stat()
        assert (process.st_uid, process.st_gid) == (owner(new_dir), pwd.getpwuid(owner(new_dir)).pw_gid)
    use_once(new_dir)
    assert count_uses(new_dir) == 1


def test_other_account_in_a_closed_directory(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may pass through root's closed directories, and their modes do not change."""
    programs = base / "programs"
    programs.mkdir()
    (programs / "setpriv").symlink_to(str(shutil.which("setpriv")))
    monkeypatch.setenv("PATH", str(programs))
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    with running(closed / "data", bin_dir=None, start_timeout=TIMEOUT, fsync=False):
        assert Path(f"/proc/{pid(closed / 'data')}").stat().st_uid == owner(closed / "data") != 0
    use_once(closed / "data")
    assert count_uses(closed / "data") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("without_namespaces")
def test_unreachable_directory(base: Path) -> None:
    """If the other account can't reach the data, the error says so and what to do, and no mode changes."""
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match=r"does not run as root(.|\n)*OO_ML_DATABASE_URL"):
        use_once(closed / "data")
    assert closed.stat().st_mode & 0o777 == 0o700


def test_change_of_account(own_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same data works on systems with and without user namespaces, in any order."""
    use_once(own_dir)
    with monkeypatch.context() as context:
        context.setenv("PATH", "/nowhere")
        use_once(own_dir)
    assert owner(own_dir) != 0
    assert count_uses(own_dir) == 2


def test_root_in_a_home_directory(base: Path, use: Callable[..., User]) -> None:
    """If root starts the server in a user's directory, as with `sudo`, all files stay the user's."""
    home = base / "home"
    home.mkdir(mode=0o700)
    os.chown(home, OTHER.pw_uid, OTHER.pw_gid)
    data_dir = home / ".local" / "data"
    use_once(data_dir)
    foreign = [path for path in home.rglob("*") if path.lstat().st_uid != OTHER.pw_uid]
    assert foreign == []
    user = use(data_dir, _python(), OTHER.pw_uid)
    assert ask(user.server(), "SELECT count(*) FROM uses") == 1
    user.leave()
    use_once(data_dir)
    assert count_uses(data_dir) == 2


def test_ordinary_user(base: Path, use: Callable[..., User]) -> None:
    """An ordinary user needs only a directory; root may join the server, and leave last."""
    home = base / "home"
    home.mkdir(mode=0o700)
    os.chown(home, OTHER.pw_uid, OTHER.pw_gid)
    user = use(home / "data", _python(), OTHER.pw_uid)
    server = user.server()
    assert Path(f"/proc/{pid(home / 'data')}").stat().st_uid == OTHER.pw_uid
    with running(home / "data", bin_dir=None, start_timeout=TIMEOUT, fsync=False) as joined:
        assert joined == server
        user.leave()
        assert ask(joined, "SELECT 1") == 1
    assert pid(home / "data") is None


@pytest.fixture
def foreign_dir(base: Path) -> Path:
    """Return a data directory of a user id without an account, as containers are given."""
    directory = base / "foreign"
    directory.mkdir(mode=0o700)
    os.chown(directory, WITHOUT_ACCOUNT, WITHOUT_ACCOUNT)
    return directory


def test_user_without_account(foreign_dir: Path, bin_dir: Path, use: Callable[..., User]) -> None:
    """A user id without an account creates the data in a user namespace, owns it, and needs no namespace later."""
    python = _python()
    if not choose_account(foreign_dir, foreign_dir / "postgres", bin_dir).prefix:
        pytest.skip("this system forbids user namespaces")
    first = use(foreign_dir, python, WITHOUT_ACCOUNT)
    ask(first.server(), "CREATE TABLE uses ()")
    first.leave()
    assert owner(foreign_dir) == WITHOUT_ACCOUNT
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        second = use(foreign_dir, python, WITHOUT_ACCOUNT)
    assert ask(second.server(), "SELECT count(*) FROM uses") == 0
    second.leave()
    assert pid(foreign_dir) is None


def test_user_without_account_and_namespaces(bin_dir: Path, foreign_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without user namespaces, a user id without an account is told so, and what to do."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(os, "geteuid", lambda: WITHOUT_ACCOUNT)
    with pytest.raises(
        EmbeddedPostgresError, match=rf"^User id {WITHOUT_ACCOUNT} has no account (.*) OO_ML_DATABASE_URL$"
    ):
        choose_account(foreign_dir, foreign_dir / "postgres", bin_dir)


def test_access_of_other_users(data_dir: Path, bin_dir: Path, use: Callable[..., User]) -> None:
    """Other accounts can neither take the locks nor connect to the socket."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        attempt = subprocess.run(  # noqa: S603 - our own program
            [bin_dir / "pg_isready", f"--host={server.socket_dir}"],
            user=OTHER.pw_uid,
            group=OTHER.pw_gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        assert b"no response" in attempt.stdout
        intruder = use(data_dir, _python(), OTHER.pw_uid)
        assert intruder.process.wait(TIMEOUT) != 0


def _python() -> str:
    """Return an interpreter that the ordinary user can run."""
    for candidate in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if candidate is None:
            continue
        try:
            attempt = subprocess.run(  # noqa: S603 - our own program
                [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"],
                user=OTHER.pw_uid,
                group=OTHER.pw_gid,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
        except PermissionError:
            continue
        if attempt.returncode == 0:
            return candidate
    pytest.skip("no interpreter here can be run by an ordinary user")
