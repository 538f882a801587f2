"""A server that speaks PostgreSQL's protocol up to the login, and then refuses it as told."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_SSL_REQUEST: Final = 80_877_103


@contextmanager
def refusing_server(sqlstate: str, message: str) -> Iterator[int]:
    """Refuse every login with an error until the block ends; yield the port on 127.0.0.1. TLS is refused too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_refuse_all, args=(listener, _error(sqlstate, message)))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _refuse_all(listener: socket.socket, error: bytes) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client, suppress(OSError, struct.error):
                while (request := _read_request(client)) == _SSL_REQUEST:
                    client.sendall(b"N")
                client.sendall(error if request else b"")


def _read_request(client: socket.socket) -> int:
    """Read the first message of a client; return its code, which is the version of the protocol for a login."""
    length, code = struct.unpack("!ii", client.recv(8, socket.MSG_WAITALL))
    client.recv(length - 8, socket.MSG_WAITALL) if length > 8 else b""
    return int(code)


def _error(sqlstate: str, message: str) -> bytes:
    fields = b"".join(
        f"{name}{value}\0".encode() for name, value in zip("SVCM", ["FATAL", "FATAL", sqlstate, message], strict=True)
    )
    return b"E" + struct.pack("!i", 4 + len(fields) + 1) + fields + b"\0"
