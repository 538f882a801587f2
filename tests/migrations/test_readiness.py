"""A service on a database without its schema, or with a newer one."""

from typing import Any

import psycopg

from oo_ml.storage.schema import migrate
from tests import calls
from tests.conftest import Serve, make_settings
from tests.serving import serving


def test_migration_under_a_running_service(empty_database_url: str) -> None:
    """Before the migration the service answers 503; after it, the service works without a restart."""
    with serving(make_settings(), empty_database_url) as service:
        for answer in (
            service.client.get("/readyz"),
            service.client.post("/score", json=calls.score()),
            service.client.post("/reward", json=calls.reward()),
            service.client.get("/stats/ada"),
            service.client.get("/prompts"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "schema_not_ready")
            assert answer.headers["Retry-After"] == "1"
        assert service.client.get("/livez").status_code == 200
        migrate.upgrade(empty_database_url, make_settings())
        assert service.client.get("/readyz").status_code == 200
        assert service.client.post("/score", json=calls.score()).status_code == 200
        assert service.client.get("/stats/ada").json()["pulls"] == 1


def test_downgrade_under_a_running_service(database_url: str, serve: Serve) -> None:
    """After a downgrade the service answers 503 at once, even for prepared statements."""
    client = serve(database_prepare_threshold=0).client
    assert client.post("/score", json=calls.score()).status_code == 200
    migrate.downgrade(database_url, make_settings(), "base")
    for answer in (client.get("/readyz"), client.post("/score", json=calls.score())):
        assert (answer.status_code, answer.json()["code"]) == (503, "schema_not_ready")


def test_newer_schema(postgresql: psycopg.Connection[Any], serve: Serve) -> None:
    """A service keeps working on the schema of a newer release."""
    postgresql.execute("UPDATE oo_ml.alembic_version SET version_num = '9999'")
    postgresql.commit()
    client = serve().client
    assert client.get("/readyz").status_code == 200
    assert client.post("/score", json=calls.score()).status_code == 200
