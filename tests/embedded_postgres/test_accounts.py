"""As whom the server runs: an ordinary user as itself; root in a user namespace, or as another account."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from oo_ml.embedded_postgres import Server, running
from oo_ml.embedded_postgres.account import for_data
from oo_ml.errors import EmbeddedPostgresError
from tests.embedded_postgres.processes import TIMEOUT, User, ask, pid

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def without_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that has no `unshare`."""
    monkeypatch.setenv("PATH", "/nowhere")


def owner(data_dir: Path) -> int:
    """Whose the data is."""
    return (data_dir / "postgres" / "PG_VERSION").stat().st_uid


def use_once(data_dir: Path) -> Server:
    """Start the server, count the times that this was done, and stop it."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        ask(server, "CREATE TABLE IF NOT EXISTS uses ()")
        ask(server, "INSERT INTO uses DEFAULT VALUES")
    return server


def uses(data_dir: Path) -> object:
    """How often `use_once` was called."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        return ask(server, "SELECT count(*) FROM uses")


def test_in_a_user_namespace_the_data_stays_roots(base: Path, bin_dir: Path) -> None:
    """It works below a directory that is closed to every other account, and nothing changes hands."""
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    if not for_data(closed, closed / "postgres", bin_dir).prefix:
        pytest.skip("this system forbids user namespaces")
    use_once(closed / "data")
    assert owner(closed / "data") == 0
    assert uses(closed / "data") == 1


@pytest.mark.usefixtures("without_namespaces")
def test_without_user_namespaces_another_account_runs_it(new_dir: Path) -> None:
    """The data belongs to `postgres` or `nobody`, who also owns the process."""
    with running(new_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False):
        assert pwd.getpwuid(owner(new_dir)).pw_name in {"postgres", "nobody"}
        process = Path(f"/proc/{pid(new_dir)}").stat()
        assert (process.st_uid, process.st_gid) == (owner(new_dir), pwd.getpwuid(owner(new_dir)).pw_gid)
    use_once(new_dir)
    assert uses(new_dir) == 1


def test_without_user_namespaces_a_closed_directory_is_passed_through(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container, where root's home is closed: the server is let through, and nobody else is."""
    programs = base / "programs"
    programs.mkdir()
    (programs / "setpriv").symlink_to(str(shutil.which("setpriv")))
    monkeypatch.setenv("PATH", str(programs))
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    with running(closed / "data", bin_dir=None, start_timeout=TIMEOUT, fsync=False):
        assert Path(f"/proc/{pid(closed / 'data')}").stat().st_uid == owner(closed / "data") != 0
    use_once(closed / "data")
    assert uses(closed / "data") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("without_namespaces")
def test_without_any_way_through_a_closed_directory_is_explained(base: Path) -> None:
    """The other account can't reach it: the message says so and names the ways out. Nothing is opened to others."""
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match=r"does not run as root(.|\n)*OO_ML_DATABASE_URL"):
        use_once(closed / "data")
    assert closed.stat().st_mode & 0o777 == 0o700


def test_data_may_move_between_the_two_ways(own_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a system with user namespaces to one without and back, the data goes along."""
    use_once(own_dir)
    with monkeypatch.context() as context:
        context.setenv("PATH", "/nowhere")
        use_once(own_dir)
    assert owner(own_dir) != 0
    assert uses(own_dir) == 2


def test_root_in_the_directory_of_another_leaves_it_theirs(base: Path, use: Callable[..., User]) -> None:
    """As with `sudo`: what root starts in a user's directory runs as that user, who can use it afterwards."""
    home = base / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    data_dir = home / ".local" / "data"
    use_once(data_dir)
    foreign = [path for path in home.rglob("*") if path.lstat().st_uid != NOBODY.pw_uid]
    assert foreign == []
    user = use(data_dir, _python(), NOBODY.pw_uid)
    assert ask(user.server(), "SELECT count(*) FROM uses") == 1
    user.leave()
    use_once(data_dir)
    assert uses(data_dir) == 2


def test_an_ordinary_user_starts_it_as_itself(base: Path, use: Callable[..., User]) -> None:
    """Nothing but a directory of one's own is needed; root may join, and leave last."""
    home = base / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    user = use(home / "data", _python(), NOBODY.pw_uid)
    server = user.server()
    assert Path(f"/proc/{pid(home / 'data')}").stat().st_uid == NOBODY.pw_uid
    with running(home / "data", bin_dir=None, start_timeout=TIMEOUT, fsync=False) as joined:
        assert joined == server
        user.leave()
        assert ask(joined, "SELECT 1") == 1
    assert pid(home / "data") is None


def test_an_ordinary_user_is_kept_out_of_roots_data(data_dir: Path, bin_dir: Path, use: Callable[..., User]) -> None:
    """Neither the locks nor the socket let anybody else in."""
    with running(data_dir, bin_dir=None, start_timeout=TIMEOUT, fsync=False) as server:
        attempt = subprocess.run(  # noqa: S603 - our own program
            [bin_dir / "pg_isready", f"--host={server.socket_dir}"],
            user=NOBODY.pw_uid,
            group=NOBODY.pw_gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        assert b"no response" in attempt.stdout
        intruder = use(data_dir, _python(), NOBODY.pw_uid)
        assert intruder.process.wait(TIMEOUT) != 0


def _python() -> str:
    """An interpreter that the ordinary user can run."""
    for candidate in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if candidate is None:
            continue
        try:
            attempt = subprocess.run(  # noqa: S603 - our own program
                [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"],
                user=NOBODY.pw_uid,
                group=NOBODY.pw_gid,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
        except PermissionError:
            continue
        if attempt.returncode == 0:
            return candidate
    pytest.skip("no interpreter here can be run by an ordinary user")
