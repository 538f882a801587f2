"""A TCP proxy in front of PostgreSQL whose connections can fall silent, or be dropped."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg

_READY_FOR_QUERY = b"Z\0\0\0\5I"


@dataclass(frozen=True, slots=True)
class _Pair:
    """A connection through the proxy; once it is muted, it swallows all bytes."""

    client: socket.socket
    server: socket.socket
    mute_after_login: bool
    muted: threading.Event = field(default_factory=threading.Event)

    def pass_on(self) -> None:
        with self.client, self.server, suppress(OSError):
            while True:
                ready, _, _ = select.select([self.client, self.server], [], [])
                for source in ready:
                    data = source.recv(65536)
                    if not data:
                        return
                    if not self.muted.is_set():
                        (self.server if source is self.client else self.client).sendall(data)
                    if self.mute_after_login and _READY_FOR_QUERY in data:
                        self.muted.set()

    def drop(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """A proxy that passes bytes both ways; new connections always work."""

    def __init__(self, upstream: str, listener: socket.socket) -> None:
        self._upstream = upstream
        self._listener = listener
        self._pairs: list[_Pair] = []
        self._to_mute = 0

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    def mute(self, count: int | None = None) -> None:
        """Let all connections, or the first `count`, fall silent; they stay open."""
        for pair in self._pairs[:count]:
            pair.muted.set()

    def mute_after_login(self, count: int) -> None:
        """Let the next `count` connections fall silent as soon as the server says that it is ready."""
        self._to_mute = count

    def drop(self) -> None:
        """Close all connections."""
        while self._pairs:
            self._pairs.pop().drop()

    def run(self) -> None:
        """Accept connections until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._upstream)
                pair = _Pair(client, server, self._to_mute > 0)
                self._to_mute -= 1
                self._pairs.append(pair)
                threading.Thread(target=pair.pass_on, daemon=True).start()


@contextmanager
def run_proxy(database_url: str) -> Iterator[tuple[Proxy, str]]:
    """Yield a proxy and the address of the database behind it."""
    info = psycopg.conninfo.conninfo_to_dict(database_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(f"{info['host']}/.s.PGSQL.{info['port']}", listener)
        thread = threading.Thread(target=proxy.run)
        thread.start()
        try:
            yield proxy, f"postgresql://{info['user']}@127.0.0.1:{proxy.port}/{info['dbname']}"
        finally:
            proxy.drop()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
