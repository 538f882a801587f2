"""The server that everything is measured on, with two databases: a small one and a large one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg

from oo_ml import embedded_postgres
from oo_ml.embedded_postgres import Server
from oo_ml.settings import Settings
from oo_ml.storage.schema import migrate

_START_SECONDS: Final = 120
_LARGE: Final = "large"

_SIZES: Final = """
    SELECT
        (SELECT count(*) FROM oo_ml.policy_state),
        (SELECT sum(reltuples)::bigint FROM pg_class WHERE relname ~ '^feature_history_\\d{4}_\\d\\d$'),
        pg_database_size(current_database()),
        (SELECT n_tup_hot_upd / greatest(n_tup_upd, 1)::float8 FROM pg_stat_user_tables WHERE relname = 'policy_state')
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Size of a database.

    Attributes:
        users: with a state.
        decisions: in the history, as far as PostgreSQL's statistics know.
        bytes: on disk.
        hot_share: of the updates of policy_state, those that stayed on their page and touched no index.
    """

    users: int
    decisions: int
    bytes: int
    hot_share: float


@dataclass(frozen=True, slots=True)
class Database:
    """A database of the server."""

    server: Server
    name: str

    @property
    def url(self) -> str:
        """The address, as the service is told it."""
        return self._url(self.server.user)

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection of the tables' owner, each statement a transaction."""
        return psycopg.connect(self.url, autocommit=True)

    def connect_as_superuser(self) -> psycopg.Connection[Any]:
        """Return a connection that may run CHECKPOINT and see every statistic."""
        return psycopg.connect(self._url("postgres"), autocommit=True)

    def changes(self) -> int:
        """Return the number of decisions and rewards that the states have counted."""
        with self.connect() as connection:
            return int(one(connection, "SELECT coalesce(sum(pulls) + sum(version), 0) FROM oo_ml.policy_state"))

    def sizes(self) -> Sizes:
        """Return the size of the database. Its statistics are complete when all other sessions have ended."""
        with self.connect() as connection:
            connection.execute("ANALYZE oo_ml.feature_history")
            row = connection.execute(_SIZES).fetchone()
        assert row is not None
        return Sizes(*row)

    def _url(self, user: str) -> str:
        return f"postgresql://{user}@/{self.name}?host={quote(str(self.server.socket_dir))}&port={self.server.port}"


@contextmanager
def running(directory: Path) -> Iterator[tuple[Database, Database]]:
    """Start the embedded server below `directory`, as a user would have it, and yield its two databases, migrated."""
    with embedded_postgres.running(directory, bin_dir=None, start_timeout=_START_SECONDS) as server:
        small, large = Database(server, server.database), Database(server, _LARGE)
        with small.connect() as connection:
            connection.execute(f"CREATE DATABASE {_LARGE}")
        for database in (small, large):
            migrate.upgrade(database.url, Settings())
        yield small, large


def one(connection: psycopg.Connection[Any], query: str) -> Any:  # noqa: ANN401 - whatever it asks for
    """Return the only value that a query asks for."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None, query
    return row[0]
