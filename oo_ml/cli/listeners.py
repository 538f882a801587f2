"""The sockets that `oo-ml serve` listens on, the same for one process and for several."""

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from oo_ml.errors import ConfigurationError

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")
# Owner and group: a proxy joins the group.
_SOCKET_MODE: Final = 0o660


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of `host`, such as 127.0.0.1 and ::1 for localhost; all have the same port.

    Raises:
        ConfigurationError: no address of the host, or not this port, can be listened on.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        bound: list[socket.socket] = []
        for family, _, _, _, address in dict.fromkeys(found):
            # Port 0 takes a free port once.
            same_port = bound[0].getsockname()[1] if bound else port
            bound.append(_bind(family, (address[0], same_port, *address[2:])))
    except OSError as error:
        raise ConfigurationError(
            f"The service can't listen on {host}, port {port}: {(error.strerror or str(error)).lower()}"
        ) from None
    return bound


def bind_unix(path: Path) -> socket.socket:
    """Return a socket at `path`, in place of one that an earlier service has left.

    Raises:
        ConfigurationError: the path is taken, or can't be written.
    """
    try:
        if path.is_socket():
            _remove_stale(path)
        bound = _bind(socket.AF_UNIX, str(path))
        path.chmod(_SOCKET_MODE)
        # Another service that starts now must not take it for one that was left.
        bound.listen()
    except OSError as error:
        raise ConfigurationError(
            f"The service can't listen on {path}: {(error.strerror or str(error)).lower()}"
        ) from None
    return bound


def remove(path: Path, inode: int) -> None:
    """Remove the socket at `path`, unless another service has bound one there since."""
    with suppress(FileNotFoundError):
        if path.stat().st_ino == inode:
            path.unlink()


def are_loopback(sockets: Sequence[socket.socket]) -> bool:
    """Return whether only this machine can reach the sockets; a socket in the file system is for a proxy."""
    return all(
        one.family != socket.AF_UNIX and ipaddress.ip_address(one.getsockname()[0].partition("%")[0]).is_loopback
        for one in sockets
    )


def _bind(family: int, address: object) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` has a socket of its own beside that of 0.0.0.0.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)  # type: ignore[arg-type]
        bound.set_inheritable(True)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(ConnectionRefusedError):
        probe.connect(str(path))
        raise OSError(None, "another process listens there")
    path.unlink()
