"""Errors: JSON of one shape, promised by the OpenAPI document (tests/openapi.py checks every answer)."""

import ast
import logging
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

import oo_ml
from oo_ml import errors
from oo_ml.api import error_statuses
from oo_ml.errors import OoMlError
from oo_ml.execution.lanes import Lanes
from oo_ml.execution.pool import Pool
from oo_ml.storage.postgres import sqlstates
from tests import calls, openapi
from tests.conftest import Serve, make_settings
from tests.serving import Service, serving
from tests.sessions import writing

# Services that only the command line calls: modules, and the room of evaluation.
NOT_OVER_HTTP = {
    "grants",
    "keys",
    "migrations",
    "import_state",
    "replay",
    "evaluation",
    "database_address",
    "traffic",
    "retire",
    "fit",
    "warm",
}


def call(service: Service, operation: str) -> tuple[int, dict[str, Any]]:
    """Make a call; return its status and its body."""
    method, path, body = calls.EVERY[operation]
    answer = service.client.request(method, path, json=body)
    return answer.status_code, answer.json()


def test_calls_of_this_module() -> None:
    """The tests make every call except those that answer without the database."""
    operations = {one["operationId"] for methods in openapi.document()["paths"].values() for one in methods.values()}
    assert operations == {*calls.EVERY, "getDefinitionSchema", "getHealth", "getLiveness", "getMetrics"}


@pytest.mark.parametrize("announced", [True, False], ids=["past FastAPI", "through FastAPI"])
def test_unexpected_exceptions(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, announced: bool
) -> None:
    """An unexpected exception is a JSON 500 and is logged once, with its traceback."""

    async def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Lanes, "run", fail)
    monkeypatch.setattr(Pool, "run", fail)
    for method, path, body in calls.EVERY.values():
        caplog.clear()
        content = service.client.build_request(method, path, json=body).content
        answer = service.client.request(method, path, content=content if announced else iter([content]))
        assert (answer.status_code, answer.json()) == (
            500,
            {
                "detail": "Internal error; the log of the service has the details",
                "code": "unexpected",
                "request_id": answer.headers["X-Request-ID"],
            },
        )
        [record] = [one for one in caplog.records if one.levelno >= logging.ERROR]
        assert (record.name, record.exc_info is not None) == ("oo_ml.api.errors", True)
        assert "ada" not in record.getMessage()


@pytest.mark.parametrize("schemas", [(), ("oo_ml", "analytics", "rollup")], ids=["without schemas", "empty schemas"])
def test_database_without_migrations(empty_database_url: str, schemas: tuple[str, ...]) -> None:
    """Every call is a 503 with code schema_not_ready."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for schema in schemas:
            connection.execute(f"CREATE SCHEMA {schema}".encode())
    with serving(make_settings(), empty_database_url) as service:
        for operation in calls.EVERY:
            status, problem = call(service, operation)
            assert (status, problem["code"]) == (503, "schema_not_ready"), operation


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT nowhere.f()",
        "SELECT * FROM nowhere.t",
        "SELECT CAST(NULL AS nowhere.t)",
        "SELECT * FROM no_table",
        "SELECT no_column FROM pg_class",
        "SELECT no_function()",
    ],
)
def test_missing_database_objects(db: Engine, statement: str) -> None:
    """A missing schema, table, column or function becomes SchemaNotReadyError."""
    with pytest.raises(DBAPIError) as raised, writing(db) as connection:
        connection.exec_driver_sql(statement)
    assert isinstance(sqlstates.outcome(raised.value), errors.SchemaNotReadyError)


def test_unreachable_database() -> None:
    """Every call is a 503 with code database_unavailable."""
    with serving(make_settings(), "postgresql://u@127.0.0.1:1/d") as service:
        for operation in calls.EVERY:
            status, problem = call(service, operation)
            assert (status, problem["code"]) == (503, "database_unavailable"), operation


def test_body_over_the_limit(serve: Serve) -> None:
    """Every call refuses a large Content-Length; calls that read a body refuse one in chunks too."""
    service = serve(max_body_bytes=1000)
    large = b" " * 1001
    for method, path, body in calls.EVERY.values():
        for announced in [True] if body is None else [True, False]:
            answer = service.client.request(method, path, content=large if announced else iter([large]))
            assert (answer.status_code, answer.json()) == (
                413,
                {
                    "detail": "The body is larger than OO_ML_MAX_BODY_BYTES",
                    "code": "content_too_large",
                    "request_id": answer.headers["X-Request-ID"],
                },
            )


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nowhere", (404, "not_found")),
        ("POST", "/score/", (404, "not_found")),
        ("GET", "/dashboard/static/nothing.js", (404, "not_found")),
        ("GET", "/score", (405, "method_not_allowed")),
        ("DELETE", "/prompts", (405, "method_not_allowed")),
        ("POST", "/dashboard/static/api.js", (405, "method_not_allowed")),
        ("GET", "/prompts/v99", (404, "unknown_prompt_version")),
        ("GET", "/analytics/loop-health.csv?since=x", (422, "invalid")),
        ("GET", "/users/%ff/decisions", (422, "invalid")),
        ("GET", "/prompts?limit=0", (422, "invalid")),
    ],
)
def test_other_errors(service: Service, method: str, path: str, expected: tuple[int, str]) -> None:
    """Errors of the framework have the same shape as errors of the service."""
    answer = service.client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == expected
    assert ("Allow" in answer.headers) == (answer.status_code == 405)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/prompts", "GET, POST"),
        ("PATCH", "/users/ada/decisions/01a207ac-5779-7446-ab27-aa4ca4d9dd7a/reward", "DELETE, PUT"),
        ("POST", "/health", "GET, HEAD"),
        ("GET", "/score", "POST"),
        ("OPTIONS", "/dashboard/static/api.js", "GET, HEAD"),
    ],
)
def test_allowed_methods(service: Service, method: str, path: str, allowed: str) -> None:
    """A 405 names each method of its path, also those of other routes (RFC 9110, 15.5.6)."""
    assert service.client.request(method, path).headers["Allow"] == allowed


def test_errors_of_services() -> None:
    """Each error class that calls can meet has a status, and the document promises its code."""
    package = Path(oo_ml.__file__).parent
    files = [*package.glob("api/**/*.py"), *package.glob("services/**/*.py"), *package.glob("llm/*.py")]
    named = {
        error
        for file in files
        if NOT_OVER_HTTP.isdisjoint({file.stem, file.parent.name})
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Name)
        and isinstance(error := getattr(errors, node.id, None), type)
        and issubclass(error, OoMlError)
        and error is not OoMlError
    }
    assert errors.UnknownDecisionError in named
    assert named <= error_statuses.STATUSES.keys()
    promised = {
        code
        for methods in openapi.document()["paths"].values()
        for one in methods.values()
        for status, response in one["responses"].items()
        if int(status) >= 400
        for code in response["content"]["application/json"]["examples"]
    }
    assert promised == set(error_statuses.CODES) - {errors.NotFoundError.code, errors.MethodNotAllowedError.code}
