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
    """The address for the migrating role, which has no right to this database yet but to connect."""
    assert empty_postgresql.info.dbname
    return as_role(empty_database_url, MIGRATOR)


def test_without_the_right_to_create_schemas_it_is_named(empty_postgresql: psycopg.Connection[Any], owner: str) -> None:
    """One sentence, with both ways out."""
    name = empty_postgresql.info.dbname
    assert oo_ml("db", "upgrade", OO_ML_DATABASE_URL=owner) == Done(
        1,
        "",
        f"error: migrator may not create schemas: GRANT CREATE ON DATABASE {name} TO migrator, or CREATE SCHEMA ..."
        " AUTHORIZATION migrator for each of oo_ml, analytics, rollup\n",
    )


def test_to_create_schemas_is_all_it_needs(empty_postgresql: psycopg.Connection[Any], owner: str) -> None:
    """Even where it may do nothing in public."""
    empty_postgresql.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    allow_migrations(empty_postgresql)
    empty_postgresql.commit()
    migrate.upgrade(owner, make_settings())
    migrate.check(owner, make_settings())
    migrate.downgrade(owner, make_settings(), "base")


def test_schemas_made_for_it_are_enough(empty_postgresql: psycopg.Connection[Any], owner: str) -> None:
    """An administrator makes them; the role can't create any, and needs no other right."""
    for schema in ("oo_ml", "analytics", "rollup"):
        create = SQL("CREATE SCHEMA {} AUTHORIZATION {}")
        empty_postgresql.execute(create.format(Identifier(schema), Identifier(MIGRATOR)))
    empty_postgresql.commit()
    migrate.upgrade(owner, make_settings())
    migrate.check(owner, make_settings())


def test_a_schema_of_another_role_is_named(empty_postgresql: psycopg.Connection[Any], owner: str) -> None:
    """It is empty, but a migration could not comment on it, nor a downgrade drop it."""
    allow_migrations(empty_postgresql)
    empty_postgresql.execute("CREATE SCHEMA rollup")
    empty_postgresql.commit()
    assert oo_ml("db", "upgrade", OO_ML_DATABASE_URL=owner) == Done(
        1, "", "error: Schema rollup belongs to another role: ALTER SCHEMA rollup OWNER TO migrator\n"
    )
