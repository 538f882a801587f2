"""A migrated database that one test after the other uses.

Before each test its tables are emptied, which takes a tenth of the time of a clone. They are refilled if the test
before has changed rows that the migrations made, which takes a third. The database is cloned anew only if the test
before has changed more than rows: a table, a function, a grant, or a setting. One session does this before every test,
because a new session would read the catalogs first.
"""

from typing import Any, Final

import psycopg
from psycopg.sql import SQL, Identifier
from pytest_postgresql.janitor import DatabaseJanitor

# Catalogs that change with any change to a schema or to rights in it: an UPDATE changes xmin, the rest the count.
_CATALOGS: Final = (
    "pg_attribute",
    "pg_class",
    "pg_constraint",
    "pg_default_acl",
    "pg_namespace",
    "pg_operator",
    "pg_proc",
    "pg_rewrite",
    "pg_statistic",
    "pg_trigger",
    "pg_type",
)
_SCHEMA: Final = SQL(" UNION ALL ").join(
    SQL("SELECT count(*), sum(CAST(CAST(xmin AS text) AS bigint)) FROM {}").format(Identifier(catalog))
    for catalog in _CATALOGS
)
_TABLES: Final = """
    SELECT schemaname, tablename FROM pg_tables
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY schemaname, tablename
"""
_SETTINGS: Final = """
    SELECT datacl, datconnlimit, datallowconn, ARRAY(
        SELECT CAST((setrole, setconfig) AS text) FROM pg_db_role_setting WHERE setdatabase = oid ORDER BY setrole
    )
    FROM pg_database WHERE datname = current_database()
"""
_END_OTHER_SESSIONS: Final = """
    SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_RESTART_SEQUENCES: Final = """
    SELECT setval(CAST(format('%I.%I', schemaname, sequencename) AS regclass), start_value, false)
    FROM pg_sequences WHERE last_value IS NOT NULL
"""


class ReusableDatabase:
    """A clone of a template, and what is in it before a test."""

    def __init__(self, janitor: DatabaseJanitor) -> None:
        self._janitor = janitor
        self._keeper: psycopg.Connection[Any] | None = None
        self._schema: object = None
        self._rows: list[list[tuple[str]]] = []
        self._filled_tables: list[Identifier] = []
        self._empty_tables: list[Identifier] = []

    def clean(self) -> None:
        """End all sessions of the test before. Afterwards the database holds what the migrations put there."""
        if self._keeper is None or not self._is_cleaned(self._keeper):
            self.close()
            self._janitor.drop()
            self._janitor.init()
            self._keeper = self._open()
            self._remember(self._keeper)

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection to the database."""
        connection = self._open()
        connection.autocommit = False
        return connection

    @property
    def url(self) -> str:
        """The address of the database, for a superuser."""
        server = self._janitor
        return f"postgresql://{server.user}@/{server.dbname}?host={server.host}&port={server.port}"

    def close(self) -> None:
        """Close the session that cleans the database."""
        if self._keeper is not None:
            self._keeper.close()

    def _is_cleaned(self, keeper: psycopg.Connection[Any]) -> bool:
        try:
            keeper.execute(_END_OTHER_SESSIONS)
            is_unchanged = self._schema == _read_schema(keeper)
        except psycopg.OperationalError:  # the test before has ended this session too
            return False
        if is_unchanged:
            self._put_back_rows(keeper)
        return is_unchanged

    def _open(self) -> psycopg.Connection[Any]:
        server = self._janitor
        return psycopg.connect(
            host=server.host, port=server.port, user=server.user, dbname=server.dbname, autocommit=True
        )

    def _remember(self, connection: psycopg.Connection[Any]) -> None:
        tables = [Identifier(*row) for row in connection.execute(_TABLES)]
        self._filled_tables = _having_rows(connection, tables)
        self._empty_tables = [table for table in tables if table not in self._filled_tables]
        self._schema, self._rows = _read_schema(connection), self._read_rows(connection)

    def _read_rows(self, connection: psycopg.Connection[Any]) -> list[list[tuple[str]]]:
        statements = [SQL("SELECT CAST(t AS text) FROM {} AS t").format(table) for table in self._filled_tables]
        return [connection.execute(statement).fetchall() for statement in statements]

    def _put_back_rows(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(_RESTART_SEQUENCES)
        changed = self._filled_tables if self._read_rows(connection) != self._rows else []
        if tables := changed + _having_rows(connection, self._empty_tables):
            with connection.transaction():
                connection.execute(SQL("TRUNCATE {} CASCADE").format(SQL(", ").join(tables)))
                if changed:
                    self._refill(connection)
            self._schema = _read_schema(connection)

    def _refill(self, connection: psycopg.Connection[Any]) -> None:
        # Foreign keys need no check: the rows stood together before.
        connection.execute("SET LOCAL session_replication_role = replica")
        for table, rows in zip(self._filled_tables, self._rows, strict=True):
            insert = SQL("INSERT INTO {table} SELECT (CAST(%s AS {table})).*").format(table=table)
            connection.cursor().executemany(insert, rows)


def _read_schema(connection: psycopg.Connection[Any]) -> object:
    return connection.execute(_SCHEMA).fetchall(), connection.execute(_SETTINGS).fetchall()


def _having_rows(connection: psycopg.Connection[Any], tables: list[Identifier]) -> list[Identifier]:
    has_rows = SQL(" UNION ALL ").join(SQL("SELECT EXISTS (SELECT FROM {})").format(table) for table in tables)
    return [table for table, (has,) in zip(tables, connection.execute(has_rows), strict=True) if has]
