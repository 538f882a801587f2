"""API keys: which callers are let in, and for how long."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import Engine

from oo_ml.domain.access import TOKEN_PREFIX, Scope, new_token
from oo_ml.services.access import keys
from oo_ml.setting_choices import Auth
from tests import calls
from tests.api.access.conftest import ADMIN_TOKEN, Create, bearer
from tests.conftest import Serve
from tests.serving import Service
from tests.sessions import writing
from tests.waiting import until


def score(service: Service, headers: dict[str, str] | None = None) -> httpx.Response:
    """Ask for a decision."""
    return service.client.post("/score", json=calls.score(), headers=headers)


def test_token_is_shown_once_and_not_stored(create_key: Create, postgresql: psycopg.Connection[Any]) -> None:
    """Secret scanners find a token by its prefix; the database has its SHA-256 only."""
    created = create_key(Scope.DECIDE)
    assert created.token.startswith(TOKEN_PREFIX)
    assert len(created.token) == len(TOKEN_PREFIX) + 64
    [row] = postgresql.execute("SELECT CAST(k AS text) FROM oo_ml.api_keys AS k").fetchall()
    assert created.token.removeprefix(TOKEN_PREFIX) not in row[0]


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {'ooml_' + '0' * 64}"},
        {"Authorization": f"Basic {ADMIN_TOKEN}"},
        {"Authorization": ADMIN_TOKEN},
        {"Authorization": f"Bearer {ADMIN_TOKEN}x"},
        {"Authorization": "Bearer \u00e9".encode("latin-1").decode("latin-1")},
    ],
    ids=str,
)
def test_bad_key(guarded: Service, headers: dict[str, str] | None) -> None:
    """Without a valid key each call is 401, for a hot call, another call and a path that does not exist alike."""
    sent = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    answers = [
        guarded.client.post("/score", json=calls.score(), headers=sent),
        guarded.client.get("/stats/ada", headers=sent),
        guarded.client.get("/stats/unknown", headers=sent),
        guarded.client.get("/no-such-path", headers=sent),
        guarded.client.get("/openapi.json", headers=sent),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"Bearer"}
    assert {(answer.json()["detail"], answer.json()["code"]) for answer in answers} == {
        ("Send a valid API key: `Authorization: Bearer ooml_...`", "unauthenticated")
    }


def test_key_in_use(guarded: Service, create_key: Create) -> None:
    """A key is good from its creation to its revocation, at once if the service reads the keys for each call."""
    created = create_key(Scope.DECIDE)
    assert score(guarded, bearer(created.token)).status_code == 200
    assert score(guarded, {"Authorization": f"bEARER  {created.token}"}).status_code == 200


def test_revoked_key(guarded: Service, create_key: Create, db: Engine) -> None:
    """A revoked key is 401. Its name is free for a new key."""
    created = create_key(Scope.DECIDE)
    assert score(guarded, bearer(created.token)).status_code == 200
    with writing(db) as session:
        assert keys.revoke(session, ["app"], revoked_at=datetime.now(UTC)) == [created.key.key_id]
    assert score(guarded, bearer(created.token)).status_code == 401
    assert score(guarded, bearer(create_key(Scope.DECIDE).token)).status_code == 200


def test_expired_key(guarded: Service, create_key: Create) -> None:
    """A key is refused from the moment at which it expires."""
    now = datetime.now(UTC)
    expired = create_key(Scope.DECIDE, name="expired", expires_at=now)
    expiring = create_key(Scope.DECIDE, name="expiring", expires_at=now + timedelta(days=1))
    assert score(guarded, bearer(expired.token)).status_code == 401
    assert score(guarded, bearer(expiring.token)).status_code == 200


def test_admin_key(guarded: Service) -> None:
    """The key of OO_ML_ADMIN_KEY may make every call and is not in the database."""
    assert score(guarded, bearer(ADMIN_TOKEN)).status_code == 200
    assert guarded.client.delete("/users/ada", headers=bearer(ADMIN_TOKEN)).status_code == 200


def test_use_is_recorded_to_the_hour(guarded: Service, create_key: Create, postgresql: psycopg.Connection[Any]) -> None:
    """The first use in an hour is recorded, with the hour."""
    created = create_key(Scope.DECIDE)
    before = datetime.now(UTC)
    assert score(guarded, bearer(created.token)).status_code == 200

    def used() -> datetime | None:
        postgresql.rollback()
        [(moment,)] = postgresql.execute("SELECT last_used_at FROM oo_ml.api_keys").fetchall()
        return moment if isinstance(moment, datetime) else None

    until(lambda: used() is not None)
    moment = used()
    assert moment is not None
    assert (moment.minute, moment.second, moment.microsecond) == (0, 0, 0)
    assert before - timedelta(hours=1) < moment <= datetime.now(UTC)


def test_keys_are_kept_for_the_time_of_the_setting(serve: Serve, create_key: Create, admin: Engine) -> None:
    """Within OO_ML_KEY_MAX_AGE a key is good without the database; an unknown token is looked up at once."""
    service = serve(auth=Auth.REQUIRED, key_max_age=3600, epsilon=0)
    first = create_key(Scope.READ, name="first")
    assert service.client.get("/no-such-path", headers=bearer(first.token)).status_code == 404
    second = create_key(Scope.READ, name="second")
    assert service.client.get("/no-such-path", headers=bearer(second.token)).status_code == 404
    with admin.begin() as session:
        session.exec_driver_sql("DELETE FROM oo_ml.api_keys")
    assert service.client.get("/no-such-path", headers=bearer(first.token)).status_code == 404


def test_unreadable_keys(guarded: Service, admin: Engine) -> None:
    """If the keys can't be read, a call is 503 and never 401: the client should retry, and not ask for a new key."""
    with admin.begin() as session:
        session.exec_driver_sql("ALTER TABLE oo_ml.api_keys RENAME TO hidden")
    answer = score(guarded, bearer(new_token()))
    assert (answer.status_code, answer.json()["code"]) == (503, "schema_not_ready")
    assert guarded.client.get("/livez").status_code == 200


def test_scopes_of_a_later_release(guarded: Service, create_key: Create, admin: Engine) -> None:
    """A scope that this release does not know gives no right, and disturbs no other key."""
    other, later = create_key(Scope.DECIDE, name="other"), create_key(Scope.DECIDE, name="later")
    with admin.begin() as session:
        session.exec_driver_sql("ALTER TABLE oo_ml.api_keys DROP CONSTRAINT ck_api_keys_scopes_known")
        session.exec_driver_sql("UPDATE oo_ml.api_keys SET scopes = '{paint}' WHERE name = 'later'")
    assert score(guarded, bearer(other.token)).status_code == 200
    assert score(guarded, bearer(later.token)).status_code == 403
