"""`oo-ml keys` and `oo-ml audit`."""

from typing import Any

import psycopg
import pytest

from oo_ml.domain.access import digest_of
from tests.commands import Done, oo_ml


def run(database_url: str, *words: str) -> Done:
    """Run a command on a database."""
    return oo_ml(*words, OO_ML_DATABASE_URL=database_url)


def test_life_of_a_key(database_url: str, postgresql: psycopg.Connection[Any]) -> None:
    """The token alone is on standard output, so that a script can keep it; a revoked key stays in the list."""
    created = run(database_url, "keys", "create", "web", "--scope", "read", "--scope", "decide", "--expires", "90d")
    assert created.code == 0
    [token] = created.out.splitlines()
    assert "(decide, read), until " in created.err
    assert token not in created.err
    [(key_id, digest, scopes, days)] = postgresql.execute(
        "SELECT key_id, token_sha256, scopes, expires_at - created_at FROM oo_ml.api_keys"
    ).fetchall()
    assert (digest, scopes, days.days) == (digest_of(token), ["decide", "read"], 90)
    postgresql.rollback()
    assert run(database_url, "keys", "revoke", "web") == Done(0, f"Revoked {key_id}\n", "")
    listing = run(database_url, "keys", "list").out
    assert key_id in listing
    assert "revoked" in listing
    assert token not in listing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["create", "web", "--scope", "read"], "A key in use has the name web already; revoke it first"),
        (["revoke", "other"], "There is no key in use with the name other"),
    ],
)
def test_refusals(database_url: str, words: list[str], message: str) -> None:
    """A name belongs to one key in use; a key that is not there can't be revoked."""
    run(database_url, "keys", "create", "web", "--scope", "admin")
    assert run(database_url, "keys", *words) == Done(1, "", f"error: {message}\n")


@pytest.mark.parametrize(
    "words",
    [
        ["create", "web"],
        ["create", "web", "--scope", "everything"],
        ["create", "web", "--scope", "read", "--expires", "soon"],
        ["create", "web", "--scope", "read", "--expires", "0d"],
        ["create", "a\nb", "--scope", "read"],
        ["create", "", "--scope", "read"],
        ["create", "x" * 101, "--scope", "read"],
        ["create", "0123456789ab", "--scope", "read"],
    ],
    ids=str,
)
def test_invalid_words(database_url: str, words: list[str], postgresql: psycopg.Connection[Any]) -> None:
    """Invalid options are a usage error, and make no key."""
    assert run(database_url, "keys", *words).code == 2
    assert postgresql.execute("SELECT count(*) FROM oo_ml.api_keys").fetchone() == (0,)


def test_audit_log(database_url: str) -> None:
    """Keys made and revoked, prompts published, weighed and retired, and exports are listed, the latest first."""
    run(database_url, "keys", "create", "web", "--scope", "admin")
    run(database_url, "prompts", "weight", "v1", "2")
    run(database_url, "prompts", "retire", "v1")
    run(database_url, "export", "--user", "ada")
    run(database_url, "keys", "revoke", "web")
    listing = run(database_url, "audit", "list").out
    actions = ("key.revoked", "user.exported", "prompt.retired", "prompt.weighed", "key.created")
    places = [listing.index(action) for action in actions]
    assert places == sorted(places)
    assert listing.count("(command line)") == 5
    assert "ada" not in listing
    assert "key.created" not in run(database_url, "audit", "list", "--limit", "4").out
