"""Ids of users: bodies and paths accept the same ones, and no two are confused."""

import json
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from oo_ml.domain.identifiers import is_user_id
from tests import calls
from tests.serving import Service
from tests.sessions import writing

AWKWARD = [
    "a/b",
    "/",
    "a//b/",
    "egreedy",
    "egreedy/ada",
    "egreedy%2Fada",
    "a.b",
    "a_b",
    "..a",
    "a?b=c#d",
    "100%",
    "%2F",
    "a b+c",
    " ",
    "é",
    "\u0065\u0301",
    "名前",
    "🙂" * 50,
    "x" * 200,
    "ada'; DROP TABLE oo_ml.policy_state; --",
    "<script>alert(1)</script>",
    "\u202eada",
    "__proto__",
]


def test_awkward_ids(service: Service) -> None:
    """Each user can be read back by a quoted id and is not confused with another user."""
    for pulls, user in enumerate(AWKWARD, 1):
        for _ in range(pulls):
            assert service.client.post("/score", json=calls.score(user)).status_code == 200
    for pulls, user in enumerate(AWKWARD, 1):
        path = quote(user, safe="")
        stats = service.client.get(f"/stats/{path}").json()
        assert (stats["user_id"], stats["pulls"]) == (user, pulls)
        assert service.client.get(f"/stats/egreedy/{path}").json()["pulls"] == 0
        assert len(service.client.get(f"/features/{path}").json()["history"]) == pulls


def test_unescaped_slashes(service: Service) -> None:
    """/stats/a/b is the user a/b; /stats/egreedy/b is the user b of epsilon-greedy, as the contract has it."""
    service.client.post("/score", json=calls.score("a/b"))
    assert service.client.get("/stats/a/b").json()["pulls"] == 1
    assert service.client.get("/features/a/b").json()["user_id"] == "a/b"
    assert service.client.get("/stats/egreedy/b").json()["user_id"] == "b"
    assert service.client.post("/reset/a/b").json() == {"ok": True}
    assert service.client.get("/stats/a/b").json()["pulls"] == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(user=st.text(min_size=1, max_size=60))
def test_ids_in_bodies_and_paths(service: Service, user: str) -> None:
    """Bodies and paths accept the same ids."""
    posted = service.client.post("/score", content=json.dumps(calls.score(user))).status_code
    read = service.client.get(f"/stats/{quote(user, safe='', errors='surrogatepass')}")
    assert posted == (200 if is_user_id(user) else 422)
    if posted == 200:
        assert read.json()["user_id"] == user
        assert read.json()["pulls"] >= 1


def test_invalid_ids(service: Service) -> None:
    """An invalid id in a path is a 422 with its place and the reason, without the value."""
    calls_by_path = [("GET", "stats"), ("GET", "stats/egreedy"), ("GET", "features"), ("POST", "reset")]
    for path in ("%FF", "%00", "%0A", "%C2%80", "%ED%A0%80", "x" * 201, "%C3%A9" * 101):
        for method, call in calls_by_path:
            answer = service.client.request(method, f"/{call}/{path}")
            assert answer.status_code == 422, path
            assert answer.json()["detail"][0]["loc"] == ["path", "user_id"]
            assert answer.json()["detail"][0].keys() == {"loc", "msg", "type"}


def test_ids_that_once_shared_a_file(service: Service, db: Engine) -> None:
    """a.b and a_b are two users, and so are the two spellings of é."""
    for user in ("a.b", "a_b", "é", "\u0065\u0301"):
        service.client.post("/reward", json=calls.reward(user))
    with writing(db) as connection:
        assert connection.scalars(text("SELECT count(*) FROM oo_ml.policy_state WHERE reward_count = 1")).one() == 4
