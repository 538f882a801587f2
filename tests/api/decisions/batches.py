"""Batches of decisions and rewards: how tests send them, and read their outcomes."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests.migrations.rows import uuid7
from tests.rows import everything
from tests.serving import Service

SCORE, REWARD = "/score/batch", "/reward/batch"
POLICIES = (LINUCB, EPSILON_GREEDY)
NOW = datetime.now(UTC)
# Both policies explore: what is drawn depends on a decision's name alone.
EXPLORING = {"epsilon": 0.3, "exploration": 0.3}
# An error has the id of its request, so all requests have the same.
REQUEST = {"X-Request-ID": "r-17"}

Item = dict[str, Any]


def id_of(number: int) -> str:
    """Return the decision_id of a number, with the time of the tests' start."""
    return str(uuid7(NOW, number))


def send(service: Service, path: str, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Send a batch; return its outcomes."""
    response = service.client.post(path, content=json.dumps({"items": items}), headers=REQUEST)
    assert response.status_code == 200, response.text
    outcomes: list[dict[str, Any]] = response.json()["outcomes"]
    return outcomes


def send_alone(service: Service, path: str, item: Item) -> dict[str, Any]:
    """Send an item as the single call that it stands for; return the outcome that it should have had in a batch."""
    body = {field: value for field, value in item.items() if field not in {"policy", "idempotency_key"}}
    single = path.removesuffix("/batch") + ("/egreedy" if item.get("policy") == EPSILON_GREEDY else "")
    headers = {"Idempotency-Key": item["idempotency_key"]} if "idempotency_key" in item else {}
    response = service.client.post(single, content=json.dumps(body), headers=REQUEST | headers)
    if response.status_code == 200:
        return {"kind": "done", "status": 200, "body": response.json()}
    return {"kind": "refused", "status": response.status_code, "error": response.json()}


def send_in_a_batch(service: Service, path: str, item: Item) -> dict[str, Any]:
    """Send a batch of one; return its outcome."""
    [outcome] = send(service, path, [item])
    return outcome


def send_beside_a_bad_one(service: Service, path: str, item: Item) -> dict[str, Any]:
    """Send an item beside one that pydantic's parser refuses with the whole body; return the item's outcome."""
    outcome, bad = send(service, path, [item, {"user_id": "\ud800"}])
    assert bad["status"] == 422
    return outcome


CALLS = {"alone": send_alone, "in a batch": send_in_a_batch, "beside a bad one": send_beside_a_bad_one}


def read_codes(outcomes: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    """Return the status of each outcome, with the error code of a refusal."""
    return [(outcome["status"], outcome.get("error", {}).get("code", "")) for outcome in outcomes]


def read_rows_without_times(db: Engine) -> list[dict[str, Any]]:
    """Return the rows of users without the times at which they were written."""
    return [
        {column: "some time" if isinstance(value, datetime) else value for column, value in row.items()}
        for row in everything(db)
        if "user_id" in row
    ]
