"""The log of `oo-ml serve`: its two forms, the access log, and the data that it never has."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from tests import calls
from tests.commands import Served, run_serve
from tests.waiting import until

# Each part would survive being quoted or encoded.
USER = "peculiarada/ö"
PARTS = ("peculiarada",)
TOKEN = "sesame-of-the-admin-key"  # noqa: S105
PASSWORD = "sesame-of-the-database"  # noqa: S105
GATEWAY_KEY = "sesame-of-the-gateway"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ \S+: .*")


def lines_of(service: Served) -> list[dict[str, Any]]:
    """Return the whole lines of a log in JSON; the last one may still be written."""
    return [json.loads(line) for line in service.log.read_text("utf-8").split("\n")[:-1]]


def access_lines(service: Served) -> list[dict[str, Any]]:
    """Return the lines of the access log in JSON."""
    return [line for line in lines_of(service) if line["logger"] == "oo_ml.access"]


def test_json(service_url: str, tmp_path: Path) -> None:
    """Every line is a JSON object, those of uvicorn too; a line of the access log has its fields as keys."""
    variables = {"OO_ML_LOG_FORMAT": "json", "OO_ML_ACCESS_LOG": True, "OO_ML_PROCESSES": 2}
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=service_url, **variables) as service:
        service.client.post("/score", json=calls.score(), headers={"X-Request-ID": "r-17"})
        service.client.get("/stats/ada")
        service.client.get("/nowhere/ada")
        until(lambda: len(access_lines(service)) == 3)
        lines = lines_of(service)
    assert {line["logger"] for line in lines} >= {"oo_ml.cli.servers", "uvicorn.error", "oo_ml.access"}
    for line in lines:
        assert line.keys() >= {"timestamp", "level", "logger", "event"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])
    [first, second, third] = sorted(access_lines(service), key=lambda line: line["timestamp"])
    assert (
        first.items()
        >= {
            "level": "info",
            "method": "POST",
            "route": "/score",
            "status": 200,
            "request_id": "r-17",
            "key_id": "(open)",
        }.items()
    )
    assert first["ms"] > 0
    assert (second["route"], second["status"]) == ("/stats/{user_id}", 200)
    assert (third["route"], third["status"]) == (None, 404)


def test_text(service_url: str, tmp_path: Path) -> None:
    """Without settings a line is text without colours, and requests are not logged."""
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=service_url) as service:
        assert service.client.get("/livez").status_code == 200
        assert service.client.post("/score", json=calls.score()).status_code == 200
        lines = service.log.read_text("utf-8").splitlines()
    assert all(map(TEXT_LINE.fullmatch, lines))
    assert not any("oo_ml.access" in line for line in lines)


def test_access_log_as_text(service_url: str, tmp_path: Path) -> None:
    """The access log as text has the same fields in its line, and the id of the request at its end."""
    with run_serve(tmp_path / "log", OO_ML_DATABASE_URL=service_url, OO_ML_ACCESS_LOG=True) as service:
        service.client.get("/stats/ada", headers={"X-Request-ID": "r-17"})
        until(lambda: "oo_ml.access" in service.log.read_text("utf-8"))
        [line] = [line for line in service.log.read_text("utf-8").splitlines() if "oo_ml.access" in line]
    assert re.search(r" INFO oo_ml\.access: GET /stats/\{user_id\} 200 in [\d.]+ ms, key \(open\) \[r-17\]$", line), (
        line
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_personal_data_and_no_secrets(
    service_url: str, postgresql: psycopg.Connection[Any], tmp_path: Path, form: str
) -> None:
    """At any level, no line names a user, a key or a password, also of calls that fail: 401, 404, 422, 500, 503.

    The id that an error has finds the lines of its request, with the traceback.
    """
    url = make_url(service_url).set(password=PASSWORD).render_as_string(hide_password=False)
    variables = {
        "OO_ML_DATABASE_URL": url,
        "OO_ML_AUTH": "required",
        "OO_ML_ADMIN_KEY": TOKEN,
        "OO_ML_LOG_LEVEL": "debug",
        "OO_ML_LOG_FORMAT": form,
        "OO_ML_ACCESS_LOG": True,
        "LITELLM_URL": "http://127.0.0.1:1",
        "LITELLM_MASTER_KEY": GATEWAY_KEY,
    }
    with run_serve(tmp_path / "log", **variables) as service:
        answers = make_calls(service)
        assert {answer.status_code for answer in answers} >= {200, 503}
        answers += [
            service.client.post("/score", json=calls.score(USER), headers={"Authorization": "Bearer sesame-wrong"}),
            service.client.get(f"/nowhere/{quote(USER, safe='')}", headers=BEARER),
            service.client.post("/score", json={"user_id": USER, "candidates": USER}, headers=BEARER),
            service.client.get(f"/users/{quote(USER, safe='')}/decisions?limit={quote(USER)}", headers=BEARER),
        ]
        assert [answer.status_code for answer in answers[-4:]] == [401, 404, 422, 422]
        # PostgreSQL quotes the row in DETAIL.
        postgresql.execute("ALTER TABLE oo_ml.feature_history ADD CHECK (user_id = 'ada') NOT VALID")
        postgresql.commit()
        refused = service.client.post("/score", json=calls.score(USER), headers=BEARER)
        assert (refused.status_code, refused.json()["code"]) == (500, "unexpected")
        postgresql.execute("ALTER TABLE oo_ml.feature_history RENAME TO elsewhere")
        postgresql.commit()
        unavailable = make_calls(service)
        assert {answer.status_code for answer in unavailable} >= {503}
        total = len(answers) + 1 + len(unavailable)
        until(lambda: service.log.read_text("utf-8").count("oo_ml.access") == total)
        log = service.log.read_text("utf-8")
    for secret in (*PARTS, "sesame"):
        assert secret not in log.lower()
    name = refused.json()["request_id"]
    about = [line for line in log.splitlines() if name in line]
    assert any("PostgreSQL refused a statement" in line for line in about)
    assert "Stack (most recent call last)" in log
    # The transactions of lanes and of pools alike.
    failed = [answer.json()["request_id"] for answer in unavailable if "schema_not_ready" in answer.text]
    assert len(failed) > 10
    for name in failed:
        assert any(name in line and "oo_ml.execution.retry" in line for line in log.splitlines()), name


def make_calls(service: Served) -> list[httpx.Response]:
    """Make every call for the user, with the admin key."""
    answers = []
    for method, path, body in calls.EVERY.values():
        user = quote(USER, safe="")
        content = json.loads(json.dumps(body).replace('"ada"', json.dumps(USER)))
        answers.append(service.client.request(method, path.replace("/ada", f"/{user}"), json=content, headers=BEARER))
    return answers
