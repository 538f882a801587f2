"""Any user that a body can name can be named in a URL, and is told apart from every other."""

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


def test_every_awkward_user_can_be_read_back(service: Service) -> None:
    """Each scores a different number of times, so a mix-up of any two would show."""
    for pulls, user in enumerate(AWKWARD, 1):
        for _ in range(pulls):
            assert service.client.post("/score", json=calls.score(user)).status_code == 200
    for pulls, user in enumerate(AWKWARD, 1):
        path = quote(user, safe="")
        stats = service.client.get(f"/stats/{path}").json()
        assert (stats["user_id"], stats["pulls"]) == (user, pulls)
        assert service.client.get(f"/stats/egreedy/{path}").json()["pulls"] == 0
        assert len(service.client.get(f"/features/{path}").json()["history"]) == pulls


def test_a_slash_may_stay_unescaped_where_it_is_unambiguous(service: Service) -> None:
    """/stats/a/b is the user a/b; /stats/egreedy/b is epsilon-greedy's view of the user b, as the contract has it."""
    service.client.post("/score", json=calls.score("a/b"))
    assert service.client.get("/stats/a/b").json()["pulls"] == 1
    assert service.client.get("/features/a/b").json()["user_id"] == "a/b"
    assert service.client.get("/stats/egreedy/b").json()["user_id"] == "b"
    assert service.client.post("/reset/a/b").json() == {"ok": True}
    assert service.client.get("/stats/a/b").json()["pulls"] == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(user=st.text(min_size=1, max_size=60))
def test_what_a_body_accepts_a_path_accepts(service: Service, user: str) -> None:
    """Both doors apply the same rule."""
    posted = service.client.post("/score", content=json.dumps(calls.score(user))).status_code
    read = service.client.get(f"/stats/{quote(user, safe='', errors='surrogatepass')}")
    assert posted == (200 if is_user_id(user) else 422)
    if posted == 200:
        assert read.json()["user_id"] == user
        assert read.json()["pulls"] >= 1


def test_an_id_that_cannot_exist_is_a_422(service: Service) -> None:
    """Not UTF-8, control characters, surrogates, too long: where and why, without the value."""
    calls_by_path = [("GET", "stats"), ("GET", "stats/egreedy"), ("GET", "features"), ("POST", "reset")]
    for path in ("%FF", "%00", "%0A", "%C2%80", "%ED%A0%80", "x" * 201, "%C3%A9" * 101):
        for method, call in calls_by_path:
            answer = service.client.request(method, f"/{call}/{path}")
            assert answer.status_code == 422, path
            assert answer.json()["detail"][0]["loc"] == ["path", "user_id"]
            assert answer.json()["detail"][0].keys() == {"loc", "msg", "type"}


def test_users_are_rows_of_their_own(service: Service, db: Engine) -> None:
    """a.b and a_b shared a file once; é in its two spellings are two ids."""
    for user in ("a.b", "a_b", "é", "\u0065\u0301"):
        service.client.post("/reward", json=calls.reward(user))
    with writing(db) as connection:
        assert connection.scalars(text("SELECT count(*) FROM oo_ml.policy_state WHERE reward_count = 1")).one() == 4
