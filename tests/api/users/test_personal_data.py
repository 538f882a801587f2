"""A person's data over HTTP: handed out whole, and erased for good."""

import json
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import Engine

from oo_ml.api.users.schemas import ExportAnswer
from oo_ml.files.export_document import TABLES
from tests import calls
from tests.api.users.test_users import AWKWARD
from tests.conftest import Serve
from tests.gates import scalar
from tests.services.decisions.test_batches import score, scores
from tests.services.sample_users import replayed, rows_of, without_positions
from tests.serving import Service
from tests.waiting import until

IN_A_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND xact_start IS NOT NULL
        AND pid <> pg_backend_pid()
"""


def test_a_person_is_exported_and_erased(service: Service, db: Engine) -> None:
    """The answer says how many rows of which table are gone; a second time none is, and that is fine."""
    service.client.post("/score", json=calls.score())
    service.client.post("/reward", json=calls.reward())
    service.client.post("/score/egreedy", json=calls.score())
    answer = service.client.get("/users/ada/export")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="oo-ml-export.json"'
    assert answer.headers["Cache-Control"] == "no-store"
    document = ExportAnswer.model_validate(answer.json())
    assert (len(document.feature_history), len(document.policy_state), len(document.reward_ledger)) == (2, 2, 1)
    erased = dict.fromkeys(TABLES | {"prompt_assignments"}, 0)
    erased |= {"feature_history": 2, "policy_state": 2, "reward_ledger": 1}
    gone = service.client.delete("/users/ada")
    assert (gone.status_code, gone.json()) == (200, {"ok": True, "user_id": "ada", "erased": erased, "total": 5})
    assert rows_of(db, "ada") == {}
    again = service.client.delete("/users/ada")
    assert again.json() == {"ok": True, "user_id": "ada", "erased": dict.fromkeys(erased, 0), "total": 0}
    assert service.client.get("/stats/ada").json()["pulls"] == 0


def test_what_is_exported_can_be_replayed(service: Service, db: Engine, other_db: Engine) -> None:
    """The document is the same as the command line's."""
    service.client.post("/score", json=calls.score())
    service.client.post("/reward", json=calls.reward())
    content = service.client.get("/users/ada/export").content
    replayed(other_db, content)
    assert replayed(db, content).unchanged
    assert without_positions(content)["policy_state"][0]["version"] == 1


def test_anybody_who_can_be_named_can_be_exported_and_erased(service: Service) -> None:
    """Under their own name, and nobody else with them."""
    for user in AWKWARD:
        service.client.post("/score", json=calls.score(user))
    for user in AWKWARD:
        path = f"/users/{quote(user, safe='')}"
        document = service.client.get(f"{path}/export").json()
        assert (document["user_id"], len(document["feature_history"])) == (user, 1)
        assert service.client.delete(path).json()["total"] == 2


def test_somebody_never_seen_has_an_export(service: Service) -> None:
    """With nothing in it; no person need be told from others by whether they are known."""
    answer = service.client.get("/users/nobody/export")
    assert answer.status_code == 200
    assert {table: answer.json()[table] for table in TABLES} == {table: [] for table in TABLES}


@pytest.mark.parametrize("path", ["%FF", "%00", "x" * 201, "%2E%2E"])
def test_an_id_that_cannot_exist_is_a_422(service: Service, path: str) -> None:
    """As with every other call."""
    for answer in (service.client.delete(f"/users/{path}"), service.client.get(f"/users/{path}/export")):
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["path", "user_id"]


def test_a_slow_reader_keeps_a_file_and_no_connection(serve: Serve, db: Engine) -> None:
    """With one thread for all that takes long: others are exported and erased beside it, and then it reads on."""
    with db.begin() as connection:
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
    assert len(json.loads(content)["feature_history"]) == 8000
    until(lambda: deleted_files() == before)


def test_a_reader_who_goes_away_leaves_no_file(serve: Serve, db: Engine) -> None:
    """Whether anything has been read or not."""
    with db.begin() as connection:
        score(connection, scores(1, 8000, ["ada"]))
    service = serve()
    before = deleted_files()
    with service.client.stream("GET", "/users/ada/export") as answer:
        assert answer.status_code == 200
        assert deleted_files() == before + 1
    until(lambda: deleted_files() == before)
    assert service.client.get("/users/nobody/export").status_code == 200


def deleted_files() -> int:
    """Return how many files this process, in which the service runs, has open that no directory lists any more."""
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            count += str(file.readlink()).endswith("(deleted)")
    return count
