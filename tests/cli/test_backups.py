"""A database that pg_dump and pg_restore have copied is the same for `oo-ml`."""

import subprocess
from pathlib import Path
from typing import Any

import psycopg

from oo_ml.embedded_postgres import binaries
from tests import calls
from tests.commands import oo_ml
from tests.conftest import MIGRATOR, SERVICE, as_role, url_of
from tests.serving import Service


def test_dump_and_restore(
    service: Service, database_url: str, empty_postgresql: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """The copy has the declared schema, verified users and the rights of the service's role."""
    for user in ("ada", "ben"):
        service.client.post("/score", json=calls.score(user))
    service.client.post("/reward", json=calls.reward())
    name = empty_postgresql.info.dbname
    empty_postgresql.execute(f"ALTER DATABASE {name} OWNER TO {MIGRATOR}")
    empty_postgresql.commit()
    copy = url_of(empty_postgresql)
    dump = tmp_path / "oo_ml.dump"
    schemas = [f"--schema={schema}" for schema in ("oo_ml", "analytics", "rollup")]
    _run("pg_dump", "--format=custom", *schemas, f"--file={dump}", as_role(database_url, MIGRATOR))
    _run("pg_restore", "--exit-on-error", "--dbname", as_role(copy, MIGRATOR), str(dump))

    assert oo_ml("db", "check", OO_ML_DATABASE_URL=as_role(copy, MIGRATOR)).code == 0
    verified = oo_ml("verify", "--all", OO_ML_DATABASE_URL=as_role(copy, SERVICE))
    assert "No difference: users 2, states 2, ledger entries 1, decisions 2" in verified.out, verified
    created = oo_ml("keys", "create", "web", "--scope", "read", OO_ML_DATABASE_URL=as_role(copy, SERVICE))
    assert created.code == 0, created


def _run(program: str, *words: str) -> None:
    subprocess.run([binaries.find(None) / program, *words], check=True, env={})  # noqa: S603 - of our own PostgreSQL
