"""The service needs no more rights than docs/operations.md says."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text

from tests import calls
from tests.conftest import make_settings
from tests.every_call import make_every_call
from tests.gateway import running_gateway
from tests.serving import serving
from tests.waiting import until

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
GRANTS = re.findall(r"^    (GRANT .*) TO clerk;$", OPERATIONS, re.MULTILINE)


@pytest.fixture
def clerk(postgresql: psycopg.Connection[Any], database_url: str) -> Any:  # noqa: ANN401 - a fixture that cleans up
    """The address of the database for a role that owns nothing."""
    role = f"clerk_{postgresql.info.dbname}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role}" LOGIN'.encode())
        assert len(GRANTS) == 5
        for grant in GRANTS:
            connection.execute(f'{grant} TO "{role}"'.encode())
        yield make_url(database_url).set(username=role).render_as_string()
        connection.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"'.encode())


def test_every_call_works_with_the_rights_documented(clerk: str) -> None:
    """Deciding, learning, generating, resetting, reading, publishing, reporting, exporting, erasing: all there is."""
    with running_gateway() as gateway, serving(make_settings(litellm_url=gateway.url), clerk) as service:
        make_every_call(service, gateway)


def test_upkeep_works_with_them(clerk: str, db: Engine) -> None:
    """The service adds up days and gives default rewards; whoever is erased is taken away from the sums."""
    with serving(make_settings(upkeep_interval=0.1, reward_wait=0.1), clerk) as service:
        for user_id in ("ada", "ben"):
            service.client.post("/score", json=calls.score(user_id))
        until(lambda: counted(db) == [("default", 2)])
        assert service.client.delete("/users/ada").status_code == 200
        until(lambda: counted(db) == [("default", 1)])


def counted(db: Engine) -> list[tuple[str, int]]:
    """Return which reactions are added up already, and how many."""
    with db.begin() as connection:
        statement = "SELECT reaction, CAST(sum(decisions) AS integer) FROM oo_ml.daily_reactions GROUP BY reaction"
        rows = connection.execute(text(f"{statement} HAVING sum(decisions) > 0"))
        return [(reaction, decisions) for reaction, decisions in rows]


@pytest.mark.parametrize("settings", [{"tip_prompt_version": "auto"}, {"prompt_sticky": True}], ids=str)
def test_every_way_of_picking_a_prompt_version_works_with_them(
    clerk: str, postgresql: psycopg.Connection[Any], settings: dict[str, Any]
) -> None:
    """By rewards, which are looked up in the rollup; and for good, which is written down."""
    postgresql.execute("UPDATE oo_ml.prompt_versions SET weight = 1")
    postgresql.commit()
    with running_gateway() as gateway, serving(make_settings(litellm_url=gateway.url, **settings), clerk) as service:
        answer = service.client.post("/generate", json={"user_id": "ada", "context": {}, "n": 1})
    assert (answer.status_code, answer.json()["prompt_probability"] < 1) == (200, True)


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
