"""The service needs no more rights than `oo-ml db grant-service` grants: its role in the tests has no others."""

from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from tests import calls
from tests.conftest import make_settings
from tests.every_call import make_every_call
from tests.gateway import running_gateway
from tests.serving import serving
from tests.waiting import until


def test_every_call_works_with_the_rights_granted(service_url: str) -> None:
    """Deciding, learning, generating, resetting, reading, publishing, reporting, exporting, erasing: all there is."""
    with running_gateway() as gateway, serving(make_settings(litellm_url=gateway.url), service_url) as service:
        make_every_call(service, gateway)


def test_upkeep_works_with_them(service_url: str, db: Engine) -> None:
    """The service adds up days and gives default rewards; whoever is erased is taken away from the sums."""
    with serving(make_settings(upkeep_interval=0.1, reward_wait=0.1), service_url) as service:
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
    service_url: str, postgresql: psycopg.Connection[Any], settings: dict[str, Any]
) -> None:
    """By rewards, which are looked up in the rollup; and for good, which is written down."""
    postgresql.execute("UPDATE oo_ml.prompt_versions SET weight = 1")
    postgresql.commit()
    with (
        running_gateway() as gateway,
        serving(make_settings(litellm_url=gateway.url, **settings), service_url) as service,
    ):
        answer = service.client.post("/generate", json={"user_id": "ada", "context": {}, "n": 1})
    assert (answer.status_code, answer.json()["prompt_probability"] < 1) == (200, True)
