"""The service needs no more rights than docs/operations.md says."""

from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from tests import calls
from tests import gateway as behave
from tests.conftest import make_settings
from tests.gateway import running_gateway
from tests.serving import serving

GRANTS = """
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
    GRANT USAGE ON SEQUENCE feature_history_order TO {role};
"""


@pytest.fixture
def clerk(postgresql: psycopg.Connection[Any], database_url: str) -> Any:  # noqa: ANN401 - a fixture that cleans up
    """The address of the database for a role that owns nothing."""
    role = f"clerk_{postgresql.info.dbname}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role}" LOGIN'.encode())
        connection.execute(GRANTS.format(role=f'"{role}"').encode())
        yield make_url(database_url).set(username=role).render_as_string()
        connection.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"'.encode())


def test_every_call_works_with_the_rights_documented(clerk: str) -> None:
    """Deciding, learning, generating, resetting, reading, publishing, exporting and erasing."""
    with running_gateway() as gateway, serving(make_settings(litellm_url=gateway.url), clerk) as service:
        gateway.script(behave.tips("Drink water."))
        prompt = {"version": "v4", "system_template": "Be brief.", "user_template": "{{ n }} tips."}
        answers = [
            service.client.get("/readyz"),
            service.client.post("/score", json=calls.score()),
            service.client.post("/reward", json=calls.reward()),
            service.client.post("/generate", json={"user_id": "ada", "context": {}, "n": 1}),
            service.client.get("/stats/ada"),
            service.client.get("/features/ada"),
            service.client.post("/reset/ada"),
            service.client.get("/users/ada/export"),
            service.client.delete("/users/ada"),
            service.client.post("/prompts", json=prompt),
        ]
    assert [answer.status_code for answer in answers] == [200] * 9 + [201]


def test_nothing_is_erased_where_not_everything_can_be(clerk: str, postgresql: psycopg.Connection[Any]) -> None:
    """A table of people that the service may not reach is a 503 that names it; with the right, all of it goes."""
    postgresql.execute("CREATE TABLE kept_elsewhere (user_id text)")
    postgresql.execute("INSERT INTO kept_elsewhere VALUES ('ada')")
    postgresql.commit()
    with serving(make_settings(), clerk) as service:
        service.client.post("/score", json=calls.score())
        for answer in (service.client.delete("/users/ada"), service.client.get("/users/ada/export")):
            assert (answer.status_code, answer.json()["code"]) == (503, "database_refused")
            assert "kept_elsewhere" in answer.json()["detail"]
        assert service.client.get("/stats/ada").json()["pulls"] == 1
        postgresql.execute("GRANT SELECT, DELETE ON kept_elsewhere TO PUBLIC")
        postgresql.commit()
        assert service.client.delete("/users/ada").json()["total"] == 3
