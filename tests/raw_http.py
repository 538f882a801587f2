"""Requests as bytes, for those that no HTTP client sends."""

import re
import socket
import time
from urllib.parse import urlsplit

from tests.serving import Service
from tests.waiting import PATIENCE


def connect(service: Service) -> socket.socket:
    """Return a connection to a service."""
    parts = urlsplit(service.url)
    return socket.create_connection((parts.hostname, parts.port), PATIENCE)


def exchange(service: Service, *parts: bytes) -> bytes:
    """Send the parts, one segment each; return everything that is answered until the service closes."""
    with connect(service) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.05)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def ask_livez(connection: socket.socket) -> None:
    """Make a call on a connection that stays open, and assert that it is answered."""
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    # Head and body may come in two pieces.
    while not answer.endswith(b'{"ok":true}'):
        piece = connection.recv(65536)
        assert piece, "the service has closed the connection"
        answer += piece
    assert statuses(answer) == [200]


def statuses(answers: bytes) -> list[int]:
    """Return the status of each answer."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
