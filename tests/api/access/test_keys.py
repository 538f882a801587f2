"""API keys: which callers are let in, and for how long."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import Engine

from oo_ml.domain.access import TOKEN_PREFIX, Caller, Scope, new_token
from oo_ml.errors import DatabaseUnavailableError
from oo_ml.services.access import keys
from oo_ml.services.access.keys import KeyRing
from oo_ml.settings import Auth
from tests import calls
from tests.api.access.conftest import ADMIN_TOKEN, Create, bearer
from tests.conftest import Serve
from tests.serving import Service
from tests.sessions import writing
from tests.waiting import PATIENCE, until


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


class _Readers:
    """Readers whose reading ends when the test says so."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.begun = 0
        self.go = asyncio.Event()

    async def run(self, _service: object, _commands: object) -> list[object]:
        self.begun += 1
        await self.go.wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return [outcome]


def test_one_reading_for_many_calls() -> None:
    """A thousand calls with unknown tokens wait for one reading, and those that come meanwhile for one more."""

    async def run() -> tuple[int, int]:
        readers = _Readers([], [])
        ring = KeyRing(readers, readers, admin_token=None, max_age=3600)  # type: ignore[arg-type]
        first = [asyncio.create_task(ring.find(new_token())) for _ in range(1000)]
        await asyncio.sleep(0)
        later = [asyncio.create_task(ring.find(new_token())) for _ in range(1000)]
        await asyncio.sleep(0)
        readers.go.set()
        assert await asyncio.gather(*first, *later) == [None] * 2000
        return readers.begun, len(readers.outcomes)

    assert asyncio.run(run()) == (2, 0)


def test_failed_reading() -> None:
    """Every call that waits for a reading gets its failure; the next call reads again."""

    async def run() -> tuple[list[object], Caller | None]:
        readers = _Readers(DatabaseUnavailableError(), [], [])
        readers.go.set()
        ring = KeyRing(readers, readers, admin_token=None, max_age=3600)  # type: ignore[arg-type]
        tries = [asyncio.create_task(ring.find(new_token())) for _ in range(3)]
        failed: list[object] = list(await asyncio.gather(*tries, return_exceptions=True))
        return failed, await ring.find(new_token())

    failed, found = asyncio.run(run())
    assert [type(one) for one in failed] == [DatabaseUnavailableError] * 3
    assert found is None


def test_calls_around_the_end_of_a_reading() -> None:
    """A call that comes between the end of a reading and its callbacks reads again; it does not stop the loop."""

    async def run() -> int:
        readers = _Readers([], [])
        ring = KeyRing(readers, readers, admin_token=None, max_age=3600)  # type: ignore[arg-type]
        first = asyncio.create_task(ring.find(new_token()))
        while ring._reading is None:  # noqa: ASYNC110, SLF001 - it counts turns of the loop
            await asyncio.sleep(0)
        reading = ring._reading  # noqa: SLF001
        readers.go.set()
        while not reading.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
        # The reading has ended and is not forgotten yet: not a task, which would begin a turn later.
        assert await ring.find(new_token()) is None
        assert await first is None
        return readers.begun

    assert asyncio.run(asyncio.wait_for(run(), PATIENCE)) == 2


def test_scopes_of_a_later_release(guarded: Service, create_key: Create, admin: Engine) -> None:
    """A scope that this release does not know gives no right, and disturbs no other key."""
    other, later = create_key(Scope.DECIDE, name="other"), create_key(Scope.DECIDE, name="later")
    with admin.begin() as session:
        session.exec_driver_sql("ALTER TABLE oo_ml.api_keys DROP CONSTRAINT ck_api_keys_scopes_known")
        session.exec_driver_sql("UPDATE oo_ml.api_keys SET scopes = '{paint}' WHERE name = 'later'")
    assert score(guarded, bearer(other.token)).status_code == 200
    assert score(guarded, bearer(later.token)).status_code == 403
