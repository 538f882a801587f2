"""CHECKs of arrays."""

from dataclasses import replace

import psycopg
import pytest
from psycopg.errors import CheckViolation
from psycopg.sql import SQL, Identifier
from sqlalchemy import Engine

from oo_ml.domain.population import Prior
from oo_ml.storage import policy_priors
from oo_ml.storage.policy_priors import PriorRow
from oo_ml.storage.schema.all_tables import metadata
from oo_ml.storage.schema.column_types import Float8Array
from tests.services.sample_users import create_users
from tests.services.scenario import NOON
from tests.sessions import writing

COLUMNS = [
    (table.name, column.name)
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type, Float8Array)
]
MATRICES = {"a", "start_a", "covariance", "mean_covariance"}


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_checks_of_arrays(db: Engine, postgresql: psycopg.Connection[object], table: str, column: str) -> None:
    """Each array refuses NULL elements, NaN and infinities, the empty array, and another number of dimensions."""
    create_users(db)
    with writing(db) as connection:
        policy_priors.insert(connection, PriorRow("pooled-v1", replace(Prior.initial(12), version=1), NOON, 1, 1))
    # A trigger refuses changes of a prior, whatever its numbers.
    postgresql.execute("SET session_replication_role = replica")
    names = {"table": Identifier(table), "column": Identifier(column)}
    found = postgresql.execute(SQL("SELECT count({column}) FROM oo_ml.{table}").format(**names)).fetchone()
    assert found != (0,), "no row has this array"
    place = SQL("[2][1]" if column in MATRICES else "[1]")
    for value in ("NULL", "'NaN'", "'Infinity'", "'-Infinity'"):
        change = SQL("UPDATE oo_ml.{table} SET {column}{place} = {value} WHERE {column} IS NOT NULL")
        with pytest.raises(CheckViolation), postgresql.transaction():
            postgresql.execute(change.format(place=place, value=SQL(value), **names))
    for value in ("'{}'", "'{NULL,0}'", "'{NULL}'", "'{{{1}}}'"):
        change = SQL("UPDATE oo_ml.{table} SET {column} = {value} WHERE {column} IS NOT NULL")
        with pytest.raises(CheckViolation), postgresql.transaction():
            postgresql.execute(change.format(value=SQL(value), **names))
