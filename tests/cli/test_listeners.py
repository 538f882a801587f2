"""The sockets that `oo-ml serve` listens on."""

import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from oo_ml.cli.listeners import are_loopback, bind, bind_unix, remove
from oo_ml.errors import ConfigurationError


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """A stack that closes its sockets after the test."""
    with ExitStack() as stack:
        yield stack


def test_one_port_for_all_addresses(opened: ExitStack) -> None:
    """Port 0 takes one free port for all addresses of a name."""
    sockets = [opened.enter_context(one) for one in bind("localhost", 0)]
    assert len({one.getsockname()[1] for one in sockets}) == 1
    assert len({one.getsockname()[0] for one in sockets}) == len(sockets)
    assert are_loopback(sockets)


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("127.8.9.10", True), ("0.0.0.0", False)])  # noqa: S104
def test_loopback(opened: ExitStack, host: str, *, expected: bool) -> None:
    """Only addresses of the loopback interface need no key."""
    assert are_loopback([opened.enter_context(one) for one in bind(host, 0)]) == expected


def test_taken_port() -> None:
    """A port in use is refused with the address and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1, port {port}: address already in use"):
            bind("127.0.0.1", port)


def test_unknown_host() -> None:
    """A name without an address is refused."""
    with pytest.raises(ConfigurationError, match=r"can't listen on no-such-host\.invalid"):
        bind("no-such-host.invalid", 0)


def test_unix_socket(opened: ExitStack, tmp_path: Path) -> None:
    """Owner and group may use the socket; one that an earlier service has left is replaced."""
    path = tmp_path / "socket"
    bind_unix(path).close()
    again = opened.enter_context(bind_unix(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not are_loopback([again])


def test_removal_of_a_unix_socket(tmp_path: Path) -> None:
    """At its end a service removes its own socket, and leaves that of its successor."""
    path = tmp_path / "socket"
    bind_unix(path).close()
    inode = path.stat().st_ino
    remove(path, inode + 1)
    assert path.is_socket()
    remove(path, inode)
    assert not path.exists()
    remove(path, inode)


def test_taken_unix_socket(opened: ExitStack, tmp_path: Path) -> None:
    """A socket that a process listens on, and a file that is no socket, are not replaced."""
    path = tmp_path / "socket"
    opened.enter_context(bind_unix(path))
    with pytest.raises(ConfigurationError, match="another process listens there"):
        bind_unix(path)
    file = tmp_path / "file"
    file.write_text("mine", "utf-8")
    with pytest.raises(ConfigurationError, match="address already in use"):
        bind_unix(file)
    assert file.read_text("utf-8") == "mine"
