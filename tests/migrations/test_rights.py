"""The rights that the migrating role needs: to create schemas in the database, or to own the three."""

from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from oo_ml.storage.schema import migrate
from tests.commands import Done, oo_ml
from tests.conftest import MIGRATOR, allow_migrations, as_role, make_settings


@pytest.fixture
def owner(empty_postgresql: psycopg.Connection[Any], empty_database_url: str) -> str:
    """Return the address for the migrating role, which may only connect to the database."""
    assert empty_postgresql.info.dbname
    return as_role(empty_database_url, MIGRATOR)


def test_missing_right_to_create_schemas(empty_postgresql: psycopg.Connection[Any], owner: str) -> None:
    """If the role may not create schemas, the error names the two statements that help."""
    name = empty_postgresql.info.dbname
    assert oo_ml("db", "upgrade", OO_ML_DATABASE_URL=owner) == Done(
        1,
        "",
        f"error: migrator may not create schemas: GRANT CREATE ON DATABASE {name} TO migrator, or CREATE SCHEMA ..."
        " AUTHORIZATION migrator for each of oo_ml, analytics, rollup\n",
    )


def test_right_to_create_schemas(empty_postgresql: psycopg.Connection[Any], owner: str) -> None:
    """The right to create schemas is enough, even if the role has no rights in public."""
    empty_postgresql.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    allow_migrations(empty_postgresql)
    empty_postgresql.commit()
    migrate.upgrade(owner, make_settings())
    migrate.check(owner, make_settings())
    migrate.downgrade(owner, make_settings(), "base")


def test_existing_schemas(empty_postgresql: psycopg.Connection[Any], owner: str) -> None:
    """Three schemas that the role owns are enough, even if it may not create schemas."""
    for schema in ("oo_ml", "analytics", "rollup"):
        create = SQL("CREATE SCHEMA {} AUTHORIZATION {}")
        empty_postgresql.execute(create.format(Identifier(schema), Identifier(MIGRATOR)))
    empty_postgresql.commit()
    migrate.upgrade(owner, make_settings())
    migrate.check(owner, make_settings())


def test_schema_of_another_role(empty_postgresql: psycopg.Connection[Any], owner: str) -> None:
    """A schema that another role owns is refused, and the error names the statement that helps."""
    allow_migrations(empty_postgresql)
    empty_postgresql.execute("CREATE SCHEMA rollup")
    empty_postgresql.commit()
    assert oo_ml("db", "upgrade", OO_ML_DATABASE_URL=owner) == Done(
        1, "", "error: Schema rollup belongs to another role: ALTER SCHEMA rollup OWNER TO migrator\n"
    )
