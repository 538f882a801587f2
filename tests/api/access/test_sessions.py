"""The dashboard's sign-in: a key with `read` makes a session, which may read and nothing else."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import httpx
import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer
from sqlalchemy import Engine
from starlette.responses import Response

from oo_ml.dashboard.sessions import COOKIE, IDLE_SECONDS, LONGEST_SECONDS, SIGNED_IN, Sessions
from oo_ml.domain.access import Scope
from oo_ml.services.access import keys
from oo_ml.setting_choices import Auth
from tests.api.access.conftest import Create
from tests.conftest import Serve
from tests.serving import Service
from tests.sessions import writing

SECRET = "a-secret-of-the-tests"  # noqa: S105
Browser = Callable[[], httpx.Client]


@pytest.fixture
def service(serve: Serve) -> Service:
    """A service whose calls need a key, and whose sessions the tests can sign."""
    return serve(auth=Auth.REQUIRED, session_key=SECRET, key_max_age=1e-9)


@pytest.fixture
def browser(service: Service) -> Iterator[Browser]:
    """Browsers without a session; they keep cookies."""
    with ExitStack() as running:

        def start() -> httpx.Client:
            client = httpx.Client(base_url=service.url, trust_env=False, headers={"Origin": service.url})
            return running.enter_context(client)

        yield start


def sign_in(client: httpx.Client, key: str) -> httpx.Response:
    """Send the form."""
    return client.post("/dashboard/sign-in", data={"key": key})


def cookie_from(seconds_ago: float, key_id: str, began_ago: float | None = None) -> str:
    """Return the cookie of a session that was last used, and begun, so many seconds ago."""
    now = datetime.now(UTC).timestamp()
    then = int(now - seconds_ago)
    began = now - (seconds_ago if began_ago is None else began_ago)

    class Signer(TimestampSigner):
        def get_timestamp(self) -> int:
            return then

    return str(URLSafeTimedSerializer(f"{SECRET} ", salt="oo-ml session", signer=Signer).dumps([key_id, began]))


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/user?id=ada", "/docs"])
def test_page_without_a_session(browser: Browser, path: str) -> None:
    """A browser without a session gets the page that asks for a key, as a 401 that no cache keeps."""
    answer = browser().get(path)
    assert answer.status_code == 401
    assert 'action="/dashboard/sign-in"' in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "nonce-" in answer.headers["Content-Security-Policy"]


def test_session(browser: Browser, create_key: Create) -> None:
    """A session opens the pages and the reports, and changes nothing, even if the key is an admin's."""
    client = browser()
    answer = sign_in(client, f" {create_key(Scope.ADMIN).token}\n")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/dashboard")
    for path in ("/dashboard", "/dashboard/static/api.js", "/analytics/filters", "/stats/ada", "/docs"):
        assert client.get(path).status_code == 200, path
    assert client.post("/score", json={}).status_code == 403
    assert client.delete("/users/ada").status_code == 403
    assert client.get("/users/ada/export").status_code == 403


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cookies(scheme: str) -> None:
    """The cookie is HttpOnly and SameSite=Strict, Secure behind TLS, and lasts an hour; a second one is for scripts."""
    response = Response()
    Sessions(SECRET).begin(response, "a-key", {"scheme": scheme, "root_path": "/ml"})
    session, marker = response.headers.getlist("Set-Cookie")
    assert session.startswith(f"{COOKIE}=")
    assert marker.startswith(f"{SIGNED_IN}=1;")
    for cookie in (session, marker):
        assert "SameSite=strict" in cookie
        assert f"Max-Age={IDLE_SECONDS};" in cookie
        assert "Path=/ml;" in cookie
        assert ("Secure" in cookie) == (scheme == "https")
    assert "HttpOnly" in session
    assert "HttpOnly" not in marker


@pytest.mark.parametrize("scope", [None, Scope.DECIDE])
def test_refused_sign_in(browser: Browser, create_key: Create, scope: Scope | None) -> None:
    """A key that is unknown or may not read makes no session; the page says so."""
    client = browser()
    answer = sign_in(client, create_key(scope).token if scope else "ooml_unknown")
    assert answer.status_code == 401
    assert "This key is not valid" in answer.text
    assert client.get("/dashboard").status_code == 401


def test_sign_out(browser: Browser, create_key: Create) -> None:
    """Signing out removes both cookies."""
    client = browser()
    sign_in(client, create_key(Scope.READ).token)
    answer = client.post("/dashboard/sign-out")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/dashboard")
    assert dict(client.cookies) == {}
    assert client.get("/dashboard").status_code == 401


def test_cross_site_forms(browser: Browser, create_key: Create) -> None:
    """A page of another site can neither sign a browser in nor out."""
    client = browser()
    token = create_key(Scope.READ).token
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert client.post("/dashboard/sign-in", data={"key": token}, headers=elsewhere).status_code == 403
    sign_in(client, token)
    assert client.post("/dashboard/sign-out", headers=elsewhere).status_code == 403


def test_revoked_key(browser: Browser, create_key: Create, db: Engine) -> None:
    """A session ends with its key."""
    client = browser()
    sign_in(client, create_key(Scope.READ).token)
    with writing(db) as session:
        keys.revoke(session, ["app"], revoked_at=datetime.now(UTC))
    assert client.get("/dashboard").status_code == 401


def test_idle_session(browser: Browser, create_key: Create) -> None:
    """A session that was not used for an hour has ended; until then each use prolongs it."""
    key_id = create_key(Scope.READ).key.key_id
    for age, status, is_renewed in ((1, 200, False), (1800, 200, True), (IDLE_SECONDS + 5, 401, False)):
        answer = browser().get("/dashboard", headers={"Cookie": f"{COOKIE}={cookie_from(age, key_id)}"})
        assert answer.status_code == status, age
        assert ("Set-Cookie" in answer.headers) == is_renewed, age


def test_longest_session(browser: Browser, create_key: Create) -> None:
    """A session ends twelve hours after the sign-in, however often it is used."""
    key_id = create_key(Scope.READ).key.key_id
    for began_ago, status in ((LONGEST_SECONDS - 60, 200), (LONGEST_SECONDS + 5, 401)):
        cookie = cookie_from(1, key_id, began_ago)
        assert browser().get("/dashboard", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == status


def test_odd_cookies(browser: Browser, create_key: Create) -> None:
    """Cookies of other applications on the same host don't matter, however odd they are."""
    cookie = cookie_from(1, create_key(Scope.READ).key.key_id)
    for others in ("flag", "path=1", 'a={"b": 1}', "\u00e9=1".encode().decode("latin-1"), 'a="' + '\\"' * 1000 + '"'):
        sent = f"{others}; {COOKIE}={cookie}".encode("latin-1")
        assert browser().get("/dashboard", headers=[(b"Cookie", sent)]).status_code == 200, others


@pytest.mark.parametrize("value", ["", "x", "a.b.c", '"', "WyIiXQ.aGk.c2ln", "x" * 10_000])
def test_forged_cookies(browser: Browser, value: str) -> None:
    """A cookie that the service has not signed is no session."""
    assert browser().get("/stats/ada", headers={"Cookie": f"{COOKIE}={value}"}).status_code == 401
