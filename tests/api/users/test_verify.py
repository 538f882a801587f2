"""GET /users/{user_id}/verify: the proof for one person, over HTTP."""

from urllib.parse import quote

import pytest
from sqlalchemy import Engine, text

from tests import calls
from tests.conftest import Serve
from tests.gates import holding_state
from tests.serving import Service
from tests.sessions import writing


def verify(service: Service, user_id: str = "ada") -> dict[str, object]:
    """Return the answer for a person."""
    answer = service.client.get(f"/users/{quote(user_id, safe='')}/verify")
    assert answer.status_code == 200
    found: dict[str, object] = answer.json()
    return found


def test_what_was_done_over_http_is_in_order(service: Service) -> None:
    """Both policies, whatever the id."""
    user = "team/ada; é"
    for path in ("/score", "/score/egreedy"):
        service.client.post(path, json=calls.score(user))
    for path in ("/reward", "/reward/egreedy", "/reward"):
        service.client.post(path, json=calls.reward(user, value=0.3))
    assert verify(service, user) == {
        "user_id": user,
        "verified": True,
        "states": 2,
        "changes": 3,
        "decisions": 2,
        "difference": None,
    }


def test_a_difference_is_said(service: Service, db: Engine) -> None:
    """The answer is 200: verifying has worked."""
    service.client.post("/score", json=calls.score())
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.policy_state SET pulls = 2"))
    assert verify(service) == {
        "user_id": "ada",
        "verified": False,
        "states": 1,
        "changes": 0,
        "decisions": 1,
        "difference": "linucb-v1, epoch 0, version 0: expected pulls = 1, found 2",
    }


def test_somebody_never_seen_is_in_order(service: Service) -> None:
    """With nothing that is known of them."""
    assert verify(service) == {
        "user_id": "ada",
        "verified": True,
        "states": 0,
        "changes": 0,
        "decisions": 0,
        "difference": None,
    }


def test_it_waits_for_nobody(service: Service, db: Engine) -> None:
    """A state that is locked is read as it was."""
    service.client.post("/score", json=calls.score())
    with holding_state(db, "ada", "linucb-v1") as holder:
        holder.execute(text("UPDATE oo_ml.policy_state SET pulls = 99"))
        assert verify(service)["verified"] is True


@pytest.mark.parametrize("user_id", ["%00", "%FF", "x" * 201])
def test_no_such_id_can_exist(service: Service, user_id: str) -> None:
    """As with every call that names a person."""
    assert service.client.get(f"/users/{user_id}/verify").status_code == 422


def test_it_has_the_long_timeout_and_no_more(serve: Serve, db: Engine) -> None:
    """A table that is in use for long is a 503, and the next call works."""
    service = serve(long_timeout=0.5, lock_timeout=20)
    with writing(db) as connection:
        connection.execute(text("LOCK TABLE oo_ml.feature_history IN ACCESS EXCLUSIVE MODE"))
        answer = service.client.get("/users/ada/verify")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_timeout")
    assert verify(service)["verified"] is True
