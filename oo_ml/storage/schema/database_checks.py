"""Checks that a database is suitable: its encoding, its existing tables, and the rights of the role."""

from collections.abc import Collection

from sqlalchemy import Connection, text

from oo_ml.errors import UnsuitableDatabaseError
from oo_ml.settings import Settings
from oo_ml.storage.schema.all_tables import metadata
from oo_ml.storage.schema.column_types import SCHEMA

_ENCODING = text("SELECT current_setting('server_encoding')")

# Before the first release the tables were made in the first schema of the search path.
_PRE_RELEASE = text("""
    SELECT n.nspname
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname <> 'oo_ml' AND c.relkind IN ('r', 'p')
        AND c.relname IN ('policy_state', 'feature_history', 'reward_ledger', 'alembic_version')
    GROUP BY n.nspname
    HAVING count(*) = 4
    LIMIT 1
""")

_COLUMNS = text("""
    SELECT c.relname, a.attname
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = 'oo_ml'
""")

# `downgrade base` leaves an empty version table and detached months; they don't prevent an upgrade.
_SCHEMAS = text(r"""
    SELECT
        s.name,
        n.oid IS NOT NULL AS is_there,
        n.oid IS NULL OR pg_has_role(n.nspowner, 'USAGE') AS is_ours,
        EXISTS (
            SELECT FROM pg_class AS c
            WHERE c.relnamespace = n.oid AND NOT (
                n.nspname = 'oo_ml' AND (
                    c.relname IN ('alembic_version', 'alembic_version_pkc') OR c.relname LIKE 'feature\_history\_2%'
                )
            )
        )
        OR EXISTS (SELECT FROM pg_proc AS p WHERE p.pronamespace = n.oid)
        OR EXISTS (SELECT FROM pg_type AS t WHERE t.typnamespace = n.oid AND t.typrelid = 0 AND t.typelem = 0)
        AS is_taken
    FROM unnest(CAST(:names AS text[])) AS s (name)
    LEFT JOIN pg_namespace AS n ON n.nspname = s.name
""")

_RIGHTS = text("""
    SELECT
        quote_ident(current_user) AS role, quote_ident(current_database()) AS database,
        has_database_privilege(current_database(), 'CREATE') AS may_create
""")

_REPORTS = text("""
    SELECT to_regclass('analytics.loop_health') IS NOT NULL AND to_regclass('rollup.reactions') IS NOT NULL
""")


def check_encoding(connection: Connection) -> None:
    """Check that the database can store every text.

    Raises:
        UnsuitableDatabaseError: its encoding is not UTF8.
    """
    if (encoding := connection.scalar(_ENCODING)) != "UTF8":
        raise UnsuitableDatabaseError(
            f"The encoding of this database is {encoding}, and oO ML needs UTF8: create a database with ENCODING 'UTF8'"
        )


def revision_of_ours(connection: Connection, revision: str | None, known: Collection[str]) -> str | None:
    """Check that the tables are oO ML's, of this release or a newer one; return `revision` unchanged.

    Raises:
        UnsuitableDatabaseError: the encoding is not UTF8, the tables are a pre-release's, or they are not oO ML's.
    """
    check_encoding(connection)
    if revision is None and (schema := connection.scalar(_PRE_RELEASE)):
        raise UnsuitableDatabaseError(
            f"The tables in schema {schema} are those of a pre-release, which can't be upgraded: use an empty database "
            "(OO_ML_DATABASE_URL, or OO_ML_DATA_DIR for the private PostgreSQL); to take users along, export them with "
            "the pre-release and replay the exports"
        )
    if revision is not None and (missing := _missing_column(connection)):
        if revision not in known:
            raise UnsuitableDatabaseError(
                f"{SCHEMA}.alembic_version names a revision that this release does not know, and the tables in schema "
                f"{SCHEMA} are not oO ML's: use another database"
            )
        raise UnsuitableDatabaseError(f"{missing} is missing from schema {SCHEMA}: `oo-ml db check` compares all of it")
    return revision


# ADR 13
def check_room(connection: Connection, settings: Settings) -> None:
    """Check that the three schemas either exist and are empty, or can be created.

    Raises:
        UnsuitableDatabaseError: another application has a schema of that name, or the role may not create schemas.
    """
    settings_of = {
        SCHEMA: None,
        settings.analytics_schema: settings.variable("analytics_schema"),
        settings.rollup_schema: settings.variable("rollup_schema"),
    }
    found = connection.execute(_SCHEMAS, {"names": list(settings_of)}).all()
    rights = connection.execute(_RIGHTS).one()
    for schema in found:
        if schema.is_taken:
            variable = settings_of[schema.name]
            way_out = f"set {variable} to another name" if variable else "use another database"
            raise UnsuitableDatabaseError(f"Schema {schema.name} holds objects of another application: {way_out}")
        if not schema.is_ours:
            raise UnsuitableDatabaseError(
                f"Schema {schema.name} belongs to another role: ALTER SCHEMA {schema.name} OWNER TO {rights.role}"
            )
        if not (schema.is_there or rights.may_create):
            raise UnsuitableDatabaseError(
                f"{rights.role} may not create schemas: GRANT CREATE ON DATABASE {rights.database} TO {rights.role}, "
                f"or CREATE SCHEMA ... AUTHORIZATION {rights.role} for each of {', '.join(settings_of)}"
            )


def missing_reports(connection: Connection) -> UnsuitableDatabaseError | None:
    """Return an error if the schemas named in the settings don't hold the reports, else None."""
    if connection.scalar(_REPORTS):
        return None
    return UnsuitableDatabaseError(
        "The reports are in other schemas: set OO_ML_ANALYTICS_SCHEMA and OO_ML_ROLLUP_SCHEMA as for `oo-ml db upgrade`"
    )


def _missing_column(connection: Connection) -> str | None:
    """Return the first declared table or column that schema oo_ml lacks, None if there is none."""
    there = {(row.relname, row.attname) for row in connection.execute(_COLUMNS)}
    declared = ((table.name, column.name) for table in metadata.sorted_tables for column in table.columns)
    return next((f"{table}.{column}" for table, column in declared if (table, column) not in there), None)
