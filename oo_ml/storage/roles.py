"""Rights of the roles that work with the database: the service's role, and analysts.

psycopg quotes the names of roles, and the statements have no parameters. ALTER DEFAULT PRIVILEGES gives the rights to
what later migrations make, too.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from psycopg import sql
from sqlalchemy import Connection, text

_LATER: Final = "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA"
_ROWS: Final = "GRANT SELECT, INSERT, UPDATE, DELETE ON"


class Rights(Enum):
    """Statements that grant a role its rights; {role} and {owner} are put in."""

    # Partitions are made and detached by functions that run with the owner's rights.
    SERVICE = (
        "GRANT USAGE ON SCHEMA oo_ml TO {role}",
        f"{_ROWS} ALL TABLES IN SCHEMA oo_ml TO {{role}}",
        "REVOKE INSERT, UPDATE, DELETE ON oo_ml.alembic_version FROM {role}",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA oo_ml TO {role}",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA oo_ml TO {role}",
        f"{_LATER} oo_ml {_ROWS} TABLES TO {{role}}",
        f"{_LATER} oo_ml GRANT USAGE ON SEQUENCES TO {{role}}",
        f"{_LATER} oo_ml GRANT EXECUTE ON FUNCTIONS TO {{role}}",
        "GRANT USAGE ON SCHEMA rollup TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA rollup TO {role}",
        f"{_LATER} rollup GRANT SELECT ON TABLES TO {{role}}",
        "GRANT USAGE ON SCHEMA analytics TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO {role}",
        f"{_LATER} analytics GRANT SELECT ON TABLES TO {{role}}",
    )
    ANALYST = (
        "GRANT USAGE ON SCHEMA analytics TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO {role}",
        f"{_LATER} analytics GRANT SELECT ON TABLES TO {{role}}",
    )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The granting role and its rights.

    Attributes:
        caller: the current role.
        owner: the owner of the tables.
        is_owner: whether the caller has the rights of `owner`.
        may_make_roles: whether the caller may create roles.
        is_there: whether the role to be granted the rights exists.
    """

    caller: str
    owner: str
    is_owner: bool
    may_make_roles: bool
    is_there: bool


_SURROUNDINGS = text("""
    SELECT
        CAST(current_user AS text) AS caller,
        CAST(pg_get_userbyid(c.relowner) AS text) AS owner,
        pg_has_role(c.relowner, 'USAGE') AS is_owner,
        (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) AS may_make_roles,
        EXISTS (SELECT FROM pg_roles WHERE rolname = :name) AS is_there
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'oo_ml' AND c.relname = 'policy_state'
""")


def surroundings(connection: Connection, name: str) -> Surroundings:
    """Return who grants rights to the role `name`; the tables must be there."""
    return Surroundings(**connection.execute(_SURROUNDINGS, {"name": name}).mappings().one())


def make(connection: Connection, name: str) -> None:
    """Make a role that can log in and has no password."""
    _run(connection, f"CREATE ROLE {quoted(name)} LOGIN")


def grant(connection: Connection, name: str, owner: str, rights: Rights) -> None:
    """Grant `rights` to the role `name`, now and to what `owner` makes later."""
    for statement in rights.value:
        _run(connection, statement.format(role=quoted(name), owner=quoted(owner)))


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return sql.Identifier(name).as_string()


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
