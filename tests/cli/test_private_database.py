"""The private PostgreSQL beside what an environment holds for other databases, and without a home directory."""

import pwd
from pathlib import Path
from typing import Any

import pytest

from tests import calls
from tests.commands import Done, oo_ml, oo_ml_process, run_serve

# Each alone would keep libpq from the private server, or change its sessions.
OF_ANOTHER_SERVER = {
    "PGHOST": "db.invalid",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "other",
    "PGDATABASE": "other",
    "PGSERVICE": "nowhere",
    "PGOPTIONS": "-c search_path=elsewhere -c nonsense=1",
    "PGTARGETSESSIONATTRS": "standby",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGREQUIREPEER": "stranger",
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGCONNECT_TIMEOUT": "soon",
    "PGCLIENTENCODING": "LATIN1",
    "PGDATA": "/nonexistent",
}


def test_variables_of_libpq(home: Path) -> None:
    """No variable of libpq reaches the private PostgreSQL: neither commands nor several processes of the service."""
    variables: dict[str, Any] = {"OO_ML_DATA_DIR": home / "data", **OF_ANOTHER_SERVER}
    assert oo_ml_process("prompts", "list", **variables).code == 0
    with run_serve(home / "log", **variables, OO_ML_PROCESSES=2) as service:
        assert service.client.get("/readyz").status_code == 200
        answer = service.client.post("/score", json=calls.score("日本"))
        assert answer.status_code == 200, answer.text
        service.process.terminate()
        assert service.process.wait() == 0


def test_no_home(service_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home, a command works if it needs no data directory; else it says that it has none, and what to do."""
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    assert oo_ml("settings", HOME=None).code == 0
    assert oo_ml("db", "history", HOME=None).code == 0
    assert oo_ml("prompts", "list", HOME=None, OO_ML_DATABASE_URL=service_url).code == 0
    assert oo_ml("prompts", "list", HOME=None) == Done(
        1,
        "",
        "error: The home directory of ~/.local/share/oo-ml is not known, so the private PostgreSQL has no place for its"
        " data: set HOME or OO_ML_DATA_DIR to a full path, or name a running server in OO_ML_DATABASE_URL\n",
    )
