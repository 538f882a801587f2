"""Roles that read schema analytics and nothing else: what one may do already, and the grants.

Names of roles become SQL quoted by psycopg, in statements that no parameter is looked for in.
"""

from dataclasses import dataclass
from typing import Final

from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from oo_ml.storage import failures
from oo_ml.storage.tables import ORDERS, metadata

_OURS: Final = sorted([*metadata.tables, *ORDERS.values(), "alembic_version"])
_MISSING_RIGHT: Final = "42501"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a role is to be granted something, and by whom.

    Attributes:
        caller: the role at work.
        may_make_roles: whether it may create roles.
        is_owner: whether it has the rights of `owner`.
        owner: who owns schema analytics.
        database: the name of the database.
        longest_name: the most bytes that a name may have.
    """

    caller: str
    may_make_roles: bool
    is_owner: bool
    owner: str
    database: str
    longest_name: int


@dataclass(frozen=True, slots=True)
class Excess:
    """Something that a role may do and an analyst may not.

    Attributes:
        via: the role itself, or one that it is a member of.
        what: the rest of a sentence about it.
    """

    via: str
    what: str


_SURROUNDINGS = text("""
    SELECT
        CAST(current_user AS text) AS caller,
        (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) AS may_make_roles,
        pg_has_role(n.nspowner, 'USAGE') AS is_owner,
        CAST(pg_get_userbyid(n.nspowner) AS text) AS owner,
        CAST(d.datname AS text) AS database,
        CAST(current_setting('max_identifier_length') AS integer) AS longest_name
    FROM pg_namespace AS n
    JOIN pg_database AS d ON d.datname = current_database()
    WHERE n.nspname = 'analytics'
""")

_CAN_LOGIN = text("SELECT rolcanlogin FROM pg_roles WHERE rolname = :name")

_RIGHTS = text("""
    SELECT
        has_database_privilege(r.oid, d.oid, 'CONNECT') AS connect,
        has_database_privilege(r.oid, d.oid, 'TEMPORARY') AS temporary
    FROM pg_roles AS r
    JOIN pg_database AS d ON d.datname = current_database()
    WHERE r.rolname = :name
""")

# MEMBER: what it would have to SET ROLE for, too. What everybody may counts as its own.
_EXCESS = text(r"""
    WITH those AS (
        SELECT r.*, CASE WHEN r.rolname = :name THEN 0 ELSE 1 END AS place
        FROM pg_roles AS r
        WHERE pg_has_role(CAST(:name AS name), r.oid, 'MEMBER')
    ), ours AS (
        SELECT c.oid, c.relkind, c.relowner, n.nspname, CAST(c.oid::regclass AS text) AS name
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND (
            n.nspname IN ('analytics', 'rollup')
            OR n.oid = (SELECT relnamespace FROM pg_class WHERE oid = CAST('policy_state' AS regclass))
            AND (c.relname = ANY (CAST(:ours AS text[])) OR c.relname LIKE 'feature\_history\_%')
        )
    ), found AS (
        SELECT t.place, 1 AS rank, t.rolname, q.what
        FROM those AS t
        CROSS JOIN LATERAL (VALUES
            (t.rolsuper, 'is a superuser'),
            (t.rolcreaterole, 'may create roles'),
            (t.rolreplication, 'may copy the whole server'),
            (
                t.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'),
                'may reach files and programs of the server'
            )
        ) AS q (is_so, what)
        WHERE q.is_so
        UNION ALL
        SELECT t.place, 2, t.rolname, format('owns %s', o.name)
        FROM those AS t
        JOIN ours AS o ON o.relowner = t.oid
        UNION ALL
        SELECT t.place, 3, t.rolname, format('may create tables in schema %s', n.nspname)
        FROM those AS t
        JOIN pg_namespace AS n ON n.nspname IN ('analytics', 'rollup')
            OR n.oid = (SELECT relnamespace FROM pg_class WHERE oid = CAST('policy_state' AS regclass))
        WHERE has_schema_privilege(t.oid, n.oid, 'CREATE')
        UNION ALL
        SELECT t.place, 4, t.rolname, format('may create schemas in database %s', d.datname)
        FROM those AS t
        JOIN pg_database AS d ON d.datname = current_database()
        WHERE has_database_privilege(t.oid, d.oid, 'CREATE')
        UNION ALL
        -- All that this release of PostgreSQL knows.
        SELECT t.place, CASE p.privilege_type WHEN 'SELECT' THEN 6 ELSE 5 END, t.rolname,
            format('has the right to %s on %s', p.privilege_type, o.name)
        FROM those AS t
        CROSS JOIN ours AS o
        CROSS JOIN LATERAL aclexplode(
            acldefault(CAST(CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END AS "char"), o.relowner)
        ) AS p
        WHERE NOT (o.nspname = 'analytics' AND p.privilege_type = 'SELECT') AND CASE
            WHEN o.relkind = 'S' THEN has_sequence_privilege(t.oid, o.oid, p.privilege_type)
            WHEN p.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                THEN has_any_column_privilege(t.oid, o.oid, p.privilege_type)
            ELSE has_table_privilege(t.oid, o.oid, p.privilege_type)
        END
        UNION ALL
        SELECT t.place, 7, t.rolname, format('may make temporary tables in database %s', d.datname)
        FROM those AS t
        JOIN pg_database AS d ON d.datname = current_database()
        WHERE has_database_privilege(t.oid, d.oid, 'TEMPORARY')
    )
    SELECT CAST(rolname AS text) AS via, what FROM found ORDER BY rank, place, rolname, what LIMIT 1
""")


def surroundings(connection: Connection) -> Surroundings | None:
    """Return where the connection leads to, and as whom; None: to where there is no schema analytics."""
    row = connection.execute(_SURROUNDINGS).mappings().one_or_none()
    return None if row is None else Surroundings(**row)


def can_login(connection: Connection, name: str) -> bool | None:
    """Tell whether a role can log in; None: there is no such role."""
    found: bool | None = connection.scalar(_CAN_LOGIN, {"name": name})
    return found


def excess(connection: Connection, name: str) -> Excess | None:
    """Return the worst that a role may do in this database besides reading schema analytics, if there is anything."""
    row = connection.execute(_EXCESS, {"name": name, "ours": _OURS}).one_or_none()
    return None if row is None else Excess(row.via, row.what)


def make(connection: Connection, name: str) -> None:
    """Make a role that can log in and has no password."""
    _run(connection, f"CREATE ROLE {quoted(name)} LOGIN")


def allow(connection: Connection, name: str, where: Surroundings) -> bool:
    """Let a role read schema analytics, now and after the next release; return whether PUBLIC lost a right for that.

    Nobody can be denied what everybody may, so temporary tables are nobody's any more who is not named.
    """
    role, owner, database = (quoted(one) for one in (name, where.owner, where.database))
    for statement in (
        f"GRANT USAGE ON SCHEMA analytics TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO {role}",
        # The views call functions of both as whoever reads them.
        f"GRANT EXECUTE ON ALL ROUTINES IN SCHEMA analytics, rollup TO {role}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA analytics GRANT SELECT ON TABLES TO {role}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA analytics, rollup GRANT EXECUTE ON ROUTINES TO {role}",
    ):
        _run(connection, statement)
    rights = connection.execute(_RIGHTS, {"name": name}).one()
    if not rights.connect:
        _run(connection, f"GRANT CONNECT ON DATABASE {database} TO {role}")
    if rights.temporary:
        _run(connection, f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    return bool(rights.temporary)


def limit(connection: Connection, name: str, where: Surroundings, statement_timeout: int) -> bool:
    """Set what a role's sessions in this database begin with; return whether the caller may.

    Args:
        connection: in the database.
        name: the role.
        where: the database.
        statement_timeout: in milliseconds.
    """
    role, database = quoted(name), quoted(where.database)
    try:
        for setting in (
            "default_transaction_read_only = on",
            f"statement_timeout = {statement_timeout}",
            "search_path = analytics",
            # Compiling takes longer than the reports themselves.
            "jit = off",
        ):
            _run(connection, f"ALTER ROLE {role} IN DATABASE {database} SET {setting}")
    except DBAPIError as error:
        if failures.sqlstate(error) == _MISSING_RIGHT:
            return False
        raise
    return True


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return sql.Identifier(name).as_string()


def _run(connection: Connection, statement: str) -> None:
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
