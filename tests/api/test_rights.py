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
    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role};
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
    """Deciding, learning, generating, resetting, reading and publishing."""
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
            service.client.post("/prompts", json=prompt),
        ]
    assert [answer.status_code for answer in answers] == [200] * 7 + [201]
