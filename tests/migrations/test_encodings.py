"""Text is UTF-8, independent of the client's environment; a database with another encoding is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.sql import SQL, Identifier, Literal

from oo_ml.storage.schema import migrate
from tests import calls
from tests.commands import Done, oo_ml, oo_ml_process, run_serve
from tests.conftest import make_settings, url_of
from tests.migrations.programs import dump
from tests.serving import serving

WORDS = ("日本", "zoë", "🚀")


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def other_encoding(
    request: pytest.FixtureRequest, empty_postgresql: psycopg.Connection[Any]
) -> Iterator[tuple[str, str]]:
    """Return the name of an encoding, and the address of a database with it."""
    name = f"{empty_postgresql.info.dbname}_encoded"
    empty_postgresql.autocommit = True
    create = SQL("CREATE DATABASE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    empty_postgresql.execute(create.format(Identifier(name), Literal(request.param)))
    yield request.param, url_of(empty_postgresql).replace(f"/{empty_postgresql.info.dbname}?", f"/{name}?")
    empty_postgresql.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def test_database_encoding(other_encoding: tuple[str, str]) -> None:
    """`db upgrade`, `serve` and /readyz refuse a database that is not UTF8, and say what to do."""
    encoding, url = other_encoding
    sentence = (
        f"The encoding of this database is {encoding}, and oO ML needs UTF8: create a database with ENCODING 'UTF8'"
    )
    refused = Done(1, "", f"error: {sentence}\n")
    assert oo_ml("db", "upgrade", OO_ML_DATABASE_URL=url) == refused
    assert oo_ml_process("serve", "--port", "0", OO_ML_DATABASE_URL=url) == refused
    with serving(make_settings(), url) as service:
        answer = service.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        503,
        {"detail": sentence, "code": "unsuitable_database", "request_id": answer.headers["X-Request-ID"]},
    )


@pytest.mark.parametrize("by", ["environment", "role"])
def test_client_encoding(postgresql: psycopg.Connection[Any], service_url: str, tmp_path: Path, by: str) -> None:
    """PGCLIENTENCODING and the role's client_encoding have no effect: text in any language comes back unchanged."""
    if by == "role":
        name = Identifier(postgresql.info.dbname)
        postgresql.execute(SQL("ALTER ROLE service IN DATABASE {} SET client_encoding = 'LATIN1'").format(name))
        postgresql.commit()
    variables = {"PGCLIENTENCODING": "LATIN1"} if by == "environment" else {}
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=service_url, **variables) as service:
        for word in WORDS:
            score = calls.score(word) | {"candidates": [calls.score()["candidates"][0] | {"id": word}]}
            assert service.client.post("/score", json=score).status_code == 200
            assert service.client.get(f"/features/{quote(word)}").json()["history"][0]["tip_id"] == word
    stored = postgresql.execute("SELECT user_id, tip_id FROM oo_ml.feature_history ORDER BY position").fetchall()
    assert stored == [(word, word) for word in WORDS]


def test_client_encoding_of_a_migration(empty_database_url: str, second_database_url: str) -> None:
    """A migration writes the same prompts under any PGCLIENTENCODING; some of them are not ASCII."""
    assert any(not ord(letter) < 128 for letter in dump(empty_database_url) + migrate.sql())
    for url, encoding in ((empty_database_url, "LATIN1"), (second_database_url, "UTF8")):
        assert oo_ml("db", "upgrade", OO_ML_DATABASE_URL=url, PGCLIENTENCODING=encoding).code == 0
    assert dump(empty_database_url) == dump(second_database_url)
