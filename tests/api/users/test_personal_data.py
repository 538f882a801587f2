"""Export and erasure over HTTP."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import Engine

from oo_ml.files.export_document import open_export
from tests import calls, openapi
from tests.api.users.test_users import AWKWARD
from tests.conftest import Serve
from tests.gates import scalar
from tests.services.decisions.batches import score, scores
from tests.services.sample_users import TABLES, parse_export, parse_without_positions, replay_bytes, rows_of
from tests.serving import Service
from tests.sessions import writing
from tests.waiting import until

IN_A_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND xact_start IS NOT NULL
        AND pid <> pg_backend_pid()
"""


def test_export_and_erasure(service: Service, db: Engine) -> None:
    """The answer has the number of rows erased from each table; a second erasure is no error and counts 0."""
    service.client.post("/score", json=calls.score())
    service.client.post("/reward", json=calls.reward())
    service.client.post("/score/egreedy", json=calls.score())
    answer = service.client.get("/users/ada/export")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="oo-ml-export.jsonl"'
    assert answer.headers["Cache-Control"] == "no-store"
    document = parse_export(answer.content)
    assert [len(document[name]) for name in ("feature_history", "policy_state", "reward_ledger")] == [2, 2, 1]
    erased = dict.fromkeys(TABLES, 0)
    erased |= {"feature_history": 2, "policy_state": 2, "reward_ledger": 1}
    gone = service.client.delete("/users/ada")
    assert (gone.status_code, gone.json()) == (200, {"ok": True, "user_id": "ada", "erased": erased, "total": 5})
    assert rows_of(db, "ada") == {}
    again = service.client.delete("/users/ada")
    assert again.json() == {"ok": True, "user_id": "ada", "erased": dict.fromkeys(erased, 0), "total": 0}
    assert service.client.get("/stats/ada").json()["pulls"] == 0


def test_replay_of_an_export(service: Service, db: Engine, other_db: Engine) -> None:
    """A replay reads the answer like a file of the command line, and knows a user who has not changed."""
    service.client.post("/score", json=calls.score())
    service.client.post("/reward", json=calls.reward())
    content = service.client.get("/users/ada/export").content
    replay_bytes(other_db, content)
    assert replay_bytes(db, content).unchanged
    assert parse_without_positions(content)["policy_state"][0]["version"] == 1


def test_awkward_ids(service: Service) -> None:
    """Every id that the service accepts can be exported and erased, and no other user with it."""
    for user in AWKWARD:
        service.client.post("/score", json=calls.score(user))
    for user in AWKWARD:
        path = f"/users/{quote(user, safe='')}"
        document = parse_export(service.client.get(f"{path}/export").content)
        assert (document["user_id"], len(document["feature_history"])) == (user, 1)
        assert service.client.delete(path).json()["total"] == 2


def test_export_of_an_unknown_user(service: Service) -> None:
    """An unknown user has an export without rows, so the answer does not tell whether a user is known."""
    answer = service.client.get("/users/zoe/export")
    assert answer.status_code == 200
    assert {table: parse_export(answer.content)[table] for table in TABLES} == {table: [] for table in TABLES}


def test_documented_example() -> None:
    """The example in the OpenAPI document is a complete export."""
    operation = openapi.document()["paths"]["/users/{user_id}/export"]["get"]
    example = operation["responses"]["200"]["content"]["application/x-ndjson"]["example"]
    with open_export(BytesIO(example.encode())) as export:
        assert export.user_id == "ada"
        assert len(list(export.read_rows("prompt_assignments"))) == 1


@pytest.mark.parametrize("path", ["%FF", "%00", "x" * 201, "%2E%2E"])
def test_ids_that_no_user_has(service: Service, path: str) -> None:
    """An id that the service accepts for no user is answered with 422 and its place."""
    for answer in (service.client.delete(f"/users/{path}"), service.client.get(f"/users/{path}/export")):
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["path", "user_id"]


def test_slow_clients(serve: Serve, db: Engine) -> None:
    """A client that reads slowly holds no connection: other users are exported and erased, and then it reads on."""
    with writing(db) as connection:
        score(connection, scores(1, 8000, ["ada"]))
    service = serve(long_workers=1)
    before = deleted_files()
    with service.client.stream("GET", "/users/ada/export") as slow:
        chunks = slow.iter_raw(65_536)
        first = next(chunks)
        assert deleted_files() == before + 1
        assert scalar(db, IN_A_TRANSACTION) == 0
        assert service.client.get("/users/ben/export").status_code == 200
        assert service.client.delete("/users/ada").json()["total"] > 8000
        content = b"".join([first, *chunks])
        assert len(content) == int(slow.headers["Content-Length"])
    assert len(parse_export(content)["feature_history"]) == 8000
    until(lambda: deleted_files() == before)


def test_clients_that_disconnect(serve: Serve, db: Engine) -> None:
    """The temporary file is closed if the client disconnects before it has read the answer."""
    with writing(db) as connection:
        score(connection, scores(1, 8000, ["ada"]))
    service = serve()
    before = deleted_files()
    with service.client.stream("GET", "/users/ada/export") as answer:
        assert answer.status_code == 200
        assert deleted_files() == before + 1
    until(lambda: deleted_files() == before)
    assert service.client.get("/users/zoe/export").status_code == 200


def deleted_files() -> int:
    """Return how many files this process, in which the service runs, has open that no directory lists any more."""
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            count += str(file.readlink()).endswith("(deleted)")
    return count
