"""Rights of the service's role and of analysts.

Utility statements take no parameters, so psycopg quotes the names of roles. ALTER DEFAULT PRIVILEGES extends the rights
to tables of later migrations.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from psycopg import sql
from sqlalchemy import text

from oo_ml.storage.postgres.sessions import Reading, Writing

_LATER: Final = "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA"
_ROWS: Final = "GRANT SELECT, INSERT, UPDATE, DELETE ON"


def _reading(schema: str) -> tuple[str, ...]:
    return (
        f"GRANT USAGE ON SCHEMA {schema} TO {{role}}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {{role}}",
        f"{_LATER} {schema} GRANT SELECT ON TABLES TO {{role}}",
    )


class Rights(Enum):
    """Statements that grant a role its rights; `grant` fills in {role} and {owner}."""

    # Functions with the owner's rights create and detach partitions.
    SERVICE = (
        "GRANT USAGE ON SCHEMA oo_ml TO {role}",
        f"{_ROWS} ALL TABLES IN SCHEMA oo_ml TO {{role}}",
        "REVOKE INSERT, UPDATE, DELETE ON oo_ml.alembic_version FROM {role}",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA oo_ml TO {role}",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA oo_ml TO {role}",
        f"{_LATER} oo_ml {_ROWS} TABLES TO {{role}}",
        f"{_LATER} oo_ml GRANT USAGE ON SEQUENCES TO {{role}}",
        f"{_LATER} oo_ml GRANT EXECUTE ON FUNCTIONS TO {{role}}",
        *_reading("rollup"),
        *_reading("analytics"),
    )
    ANALYST = _reading("analytics")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The current role (`caller`) and its rights, the owner of the tables, and whether the granted role exists.

    `is_owner`: whether the caller has the rights of `owner`.
    """

    caller: str
    owner: str
    is_owner: bool
    may_create_roles: bool
    exists: bool


_SURROUNDINGS = text("""
    SELECT
        CAST(current_user AS text) AS caller,
        CAST(pg_get_userbyid(c.relowner) AS text) AS owner,
        pg_has_role(c.relowner, 'USAGE') AS is_owner,
        (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) AS may_create_roles,
        EXISTS (SELECT FROM pg_roles WHERE rolname = :name) AS exists
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'oo_ml' AND c.relname = 'policy_state'
""")


def read_surroundings(connection: Reading, name: str) -> Surroundings:
    """Return the current role's rights, and whether the role `name` exists; the tables must exist."""
    return Surroundings(**connection.execute(_SURROUNDINGS, {"name": name}).mappings().one())


def create(connection: Writing, name: str) -> None:
    """Create a role that can log in, without a password."""
    _run(connection, f"CREATE ROLE {quote(name)} LOGIN")


def grant(connection: Writing, name: str, owner: str, rights: Rights) -> None:
    """Grant `rights` to the role `name`, on existing tables and on those that `owner` creates later."""
    for statement in rights.value:
        _run(connection, statement.format(role=quote(name), owner=quote(owner)))


def quote(name: str) -> str:
    """Return a name quoted for SQL."""
    return sql.Identifier(name).as_string()


def _run(connection: Reading, statement: str) -> None:
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
