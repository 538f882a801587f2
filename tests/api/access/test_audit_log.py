"""The audit log: each administrative action leaves an entry in its own transaction."""

from typing import Any

import psycopg

from oo_ml.domain.access import Scope
from tests import calls
from tests.api.access.conftest import Create, bearer
from tests.serving import Service

PROMPT = {"version": "v9", "system_template": "Be brief.", "user_template": "{{ n }} tips."}


def entries(postgresql: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return actor, request, action and subject of each entry, the oldest first."""
    postgresql.rollback()
    return postgresql.execute(
        "SELECT actor, request_id, action, subject FROM oo_ml.audit_log ORDER BY happened_at, entry_id"
    ).fetchall()


def test_actions_over_http(guarded: Service, create_key: Create, postgresql: psycopg.Connection[Any]) -> None:
    """Publishing, exporting, resetting and erasing are logged with key and request; the user's id is not."""
    key = create_key(Scope.ADMIN)
    sent = bearer(key.token)
    guarded.client.post("/score", json=calls.score(user_id="secret-name"), headers=sent)
    guarded.client.post("/prompts", json=PROMPT, headers={**sent, "X-Request-ID": "r1"})
    guarded.client.get("/users/secret-name/export", headers={**sent, "X-Request-ID": "r2"})
    guarded.client.post("/reset/secret-name", headers={**sent, "X-Request-ID": "r3"})
    guarded.client.delete("/users/secret-name", headers={**sent, "X-Request-ID": "r4"})
    actor = key.key.key_id
    assert entries(postgresql) == [
        (actor, "r1", "prompt.published", "v9"),
        (actor, "r2", "user.exported", None),
        (actor, "r3", "user.reset", None),
        (actor, "r4", "user.erased", None),
    ]
    [(content,)] = postgresql.execute("SELECT string_agg(CAST(a AS text), ' ') FROM oo_ml.audit_log AS a").fetchall()
    assert "secret-name" not in content


def test_refused_action(service: Service, postgresql: psycopg.Connection[Any]) -> None:
    """An action that was refused leaves no entry; one without a key names no key."""
    assert service.client.post("/prompts", json=PROMPT).status_code == 201
    assert service.client.post("/prompts", json=PROMPT).status_code == 409
    assert [entry[0] for entry in entries(postgresql)] == ["(open)"]
