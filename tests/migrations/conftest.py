"""Databases, and the fixtures of pytest-alembic."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.config import Config
from psycopg.sql import SQL, Identifier
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from oo_ml.storage.postgres.address import parse_url
from tests.conftest import url_of

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def second_database_url(empty_postgresql: psycopg.Connection[Any]) -> Iterator[str]:
    """Return the address of a second empty database, for comparisons."""
    name = f"{empty_postgresql.info.dbname}_second"
    empty_postgresql.autocommit = True
    empty_postgresql.execute(SQL("DROP DATABASE IF EXISTS {}").format(Identifier(name)))
    empty_postgresql.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    yield url_of(empty_postgresql).replace(f"/{empty_postgresql.info.dbname}?", f"/{name}?")
    empty_postgresql.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture
def alembic_config() -> Config:
    """Return the configuration that `alembic` reads in a checkout."""
    return Config(CHECKOUT / "alembic.ini")


@pytest.fixture
def alembic_engine(empty_database_url: str) -> Iterator[Engine]:
    """Return an engine for an empty database."""
    created = create_engine(parse_url(empty_database_url), poolclass=NullPool)
    yield created
    created.dispose()
