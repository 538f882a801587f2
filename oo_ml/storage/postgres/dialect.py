"""SQLAlchemy's dialect for psycopg, with addresses as libpq takes them, and a BEGIN that sets limits as well."""

from typing import Any, Final

import psycopg
from sqlalchemy import URL, Connection
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import DBAPIConnection, IsolationLevel


class Dialect(PGDialect_psycopg):
    """SQLAlchemy's dialect for psycopg. BEGIN also sets the limits of the transaction, in the same round trip.

    Limits of a session do not reach the other servers of a distributed database (ADR 14), and PgBouncer loses them.
    """

    supports_statement_cache = True

    def __init__(self, begin: str | None = None, **arguments: Any) -> None:  # noqa: ANN401 - passed to the base class
        """Store `begin`, the statements that begin a transaction; None: psycopg begins it."""
        super().__init__(**arguments)  # type: ignore[no-untyped-call]
        self._begin = begin

    def create_connect_args(self, url: URL) -> tuple[list[str], dict[str, Any]]:
        """Return the parameters of `url` as libpq takes them; SQLAlchemy has a syntax of its own for several hosts."""
        names = {"user": url.username, "password": url.password, "dbname": url.database}
        return [], {**url.query, **{name: value for name, value in names.items() if value is not None}}

    def do_begin(self, dbapi_connection: DBAPIConnection) -> None:
        """Begin a transaction."""
        if self._begin is None:
            return
        driver: Any = dbapi_connection
        # PostgreSQL accepts several statements at once only if they are not prepared and the result is text.
        psycopg.Cursor[Any](driver.driver_connection).execute(self._begin, prepare=False)

    # SQLAlchemy asks for the following with a statement each, on the first connection of every engine.

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        # 180006 is 18.6.
        return divmod(_info(connection).server_version, 10_000)

    def _set_backslash_escapes(self, connection: Connection) -> None:
        self._backslash_escapes = _info(connection).parameter_status("standard_conforming_strings") == "off"

    def _get_default_schema_name(self, connection: Connection) -> str:
        # There is none: every statement names the schema of its tables.
        raise NotImplementedError

    def get_default_isolation_level(self, dbapi_conn: DBAPIConnection) -> IsolationLevel:  # noqa: ARG002
        """Return the level to which SQLAlchemy resets a connection after a transaction at another one."""
        return "READ COMMITTED"


def _info(connection: Connection) -> psycopg.ConnectionInfo:
    """Return what the server has said about itself when the session began."""
    driver: Any = connection.connection.driver_connection
    info: psycopg.ConnectionInfo = driver.info
    return info


registry.register("postgresql.oo_ml", __name__, "Dialect")
DRIVER: Final = "postgresql+oo_ml"
