"""The rights of the service: those that `oo-ml db grant-service` grants, which its role in the tests has."""

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from oo_ml.storage.schema.partitions import month_of
from tests import calls
from tests.conftest import make_settings
from tests.every_call import make_every_call
from tests.gates import scalar
from tests.gateway import running_gateway
from tests.serving import serving
from tests.sessions import writing
from tests.superuser import tamper
from tests.waiting import until


def test_calls(service_url: str) -> None:
    """Every call works with the rights of the service's role."""
    with running_gateway() as gateway, serving(make_settings(litellm_url=gateway.url), service_url) as service:
        make_every_call(service, gateway)


def test_upkeep(service_url: str, db: Engine) -> None:
    """The service updates daily sums and gives default rewards; an erased user leaves the sums."""
    with serving(make_settings(upkeep_interval=0.1, reward_wait=0.1), service_url) as service:
        for user_id in ("ada", "ben"):
            service.client.post("/score", json=calls.score(user_id))
        until(lambda: read_counted_reactions(db) == [("default", 2)])
        assert service.client.delete("/users/ada").status_code == 200
        until(lambda: read_counted_reactions(db) == [("default", 1)])


def read_counted_reactions(db: Engine) -> list[tuple[str, int]]:
    """Return which reactions are added up already, and how many."""
    with writing(db) as connection:
        statement = "SELECT reaction, CAST(sum(decisions) AS integer) FROM oo_ml.daily_reactions GROUP BY reaction"
        rows = connection.execute(text(f"{statement} HAVING sum(decisions) > 0"))
        return [(reaction, decisions) for reaction, decisions in rows]


@pytest.mark.parametrize("settings", [{"tip_prompt_version": "auto"}, {"prompt_sticky": True}], ids=str)
def test_choice_of_prompt_versions(
    service_url: str, postgresql: psycopg.Connection[Any], settings: dict[str, Any]
) -> None:
    """The role may read rewards for TIP_PROMPT_VERSION=auto and store sticky assignments."""
    postgresql.execute("UPDATE oo_ml.prompt_versions SET weight = 1")
    postgresql.commit()
    with (
        running_gateway() as gateway,
        serving(make_settings(litellm_url=gateway.url, **settings), service_url) as service,
    ):
        answer = service.client.post("/generate", json={"user_id": "ada", "context": {}, "n": 1})
    assert (answer.status_code, answer.json()["prompt_probability"] < 1) == (200, True)


def test_erasure_without_a_right(service_url: str, postgresql: psycopg.Connection[Any]) -> None:
    """If one of the user's tables can't be changed, the call is a 503 that names it, and nothing is erased."""
    with serving(make_settings(), service_url) as service:
        service.client.post("/score", json=calls.score())
        for right, call in (("DELETE", service.client.delete), ("SELECT", service.client.get)):
            postgresql.execute(f"REVOKE {right} ON oo_ml.tips FROM service".encode())
            postgresql.commit()
            answer = call("/users/ada" if right == "DELETE" else "/users/ada/export")
            assert (answer.status_code, answer.json()["code"]) == (503, "database_refused")
            assert "tips" in answer.json()["detail"]
        assert service.client.get("/stats/ada").json()["pulls"] == 1
        postgresql.execute("GRANT SELECT, DELETE ON oo_ml.tips TO service")
        postgresql.commit()
        assert service.client.delete("/users/ada").json()["total"] == 2


def test_partitions(service_url: str, db: Engine) -> None:
    """The service makes missing months and detaches those past retention, without owning the tables."""
    missing = f"feature_history_{month_of(datetime.now(UTC), 2):%Y_%m}"
    tamper(db, f"DROP TABLE oo_ml.{missing}")
    tamper(db, "SELECT oo_ml.create_feature_history_months('2001-05-01Z', 1)")
    months = """
        SELECT array_agg(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'oo_ml.feature_history'::regclass
    """
    with serving(make_settings(upkeep_interval=0.1, history_retention=1), service_url):
        until(lambda: f"oo_ml.{missing}" in str(scalar(db, months)) and "2001_05" not in str(scalar(db, months)))
