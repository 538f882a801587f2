"""A TCP proxy in front of PostgreSQL that can fall silent, or drop every connection."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg


class Proxy:
    """Passes bytes both ways until it is told not to."""

    def __init__(self, upstream: str, listener: socket.socket) -> None:
        self._upstream = upstream
        self._listener = listener
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._speaking = threading.Event()
        self._speaking.set()
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        port: int = self._listener.getsockname()[1]
        return port

    def fall_silent(self) -> None:
        """Pass nothing on any more, and keep every connection open."""
        self._speaking.clear()

    def speak(self) -> None:
        """Pass on what has come in meanwhile, and what comes."""
        self._speaking.set()

    def drop(self) -> None:
        """Cut every connection there is."""
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()

    def run(self) -> None:
        """Accept connections until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._upstream)
                with self._lock:
                    self._pairs.append((client, server))
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, suppress(OSError):
            while True:
                ready, _, _ = select.select([client, server], [], [])
                self._speaking.wait()
                for source in ready:
                    data = source.recv(65536)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)


@contextmanager
def proxied(database_url: str) -> Iterator[tuple[Proxy, str]]:
    """Yield a proxy and the address of the database behind it."""
    info = psycopg.conninfo.conninfo_to_dict(database_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(f"{info['host']}/.s.PGSQL.{info['port']}", listener)
        thread = threading.Thread(target=proxy.run)
        thread.start()
        try:
            yield proxy, f"postgresql://{info['user']}@127.0.0.1:{proxy.port}/{info['dbname']}"
        finally:
            proxy.speak()
            proxy.drop()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
