"""GET /users/{user_id}/verify: the verification of one user."""

from urllib.parse import quote

import pytest
from sqlalchemy import Engine, text

from tests import calls
from tests.conftest import Serve
from tests.gates import holding_state
from tests.serving import Service
from tests.sessions import writing
from tests.waiting import until


def verify(service: Service, user_id: str = "ada") -> dict[str, object]:
    """Return the answer for a user."""
    answer = service.client.get(f"/users/{quote(user_id, safe='')}/verify")
    assert answer.status_code == 200
    found: dict[str, object] = answer.json()
    return found


def test_no_difference(service: Service) -> None:
    """States of both policies are verified, whatever the id."""
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


def test_difference(service: Service, db: Engine) -> None:
    """A difference is a 200 with a sentence, because the verification itself succeeded."""
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


def test_unknown_user(service: Service) -> None:
    """An unknown user is verified, with zero states."""
    assert verify(service) == {
        "user_id": "ada",
        "verified": True,
        "states": 0,
        "changes": 0,
        "decisions": 0,
        "difference": None,
    }


def test_locked_state(service: Service, db: Engine) -> None:
    """A locked state is read as it was before, without waiting."""
    service.client.post("/score", json=calls.score())
    with holding_state(db, "ada", "linucb-v1") as holder:
        holder.execute(text("UPDATE oo_ml.policy_state SET pulls = 99"))
        assert verify(service)["verified"] is True


@pytest.mark.parametrize("user_id", ["%00", "%FF", "x" * 201])
def test_invalid_ids(service: Service, user_id: str) -> None:
    """An invalid id is a 422, as in every call that names a user."""
    assert service.client.get(f"/users/{user_id}/verify").status_code == 422


def test_timeout(serve: Serve, db: Engine) -> None:
    """A table in use for longer than OO_ML_LONG_TIMEOUT is a 503, and the next call works."""
    service = serve(long_timeout=0.5, lock_timeout=20)
    with writing(db) as connection:
        connection.execute(text("LOCK TABLE oo_ml.feature_history IN ACCESS EXCLUSIVE MODE"))
        answer = service.client.get("/users/ada/verify")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_timeout")
    # On a busy machine a call may take longer than that too.
    until(lambda: service.client.get("/users/ada/verify").status_code == 200)
