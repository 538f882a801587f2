"""Decisions made over HTTP: how tests make them, reward them and read them back."""

import time
import uuid
from typing import Any

from tests import calls
from tests.serving import Service


def new_id(milliseconds_ahead: float = 0) -> str:
    """Return a UUIDv7 of about now."""
    moment = int(time.time() * 1000 + milliseconds_ahead)
    return str(uuid.UUID(int=moment << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1))


def make_decision(service: Service, user_id: str = "ada", path: str = "/score", **overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Make a decision whose id is the client's, and return the answer."""
    response = service.client.post(path, json=calls.score(user_id, decision_id=new_id(), **overrides))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def reward_of(decision: dict[str, Any], value: float, user_id: str = "ada") -> dict[str, Any]:
    """Return the reward for a decision, without features."""
    return {
        "user_id": user_id,
        "tip_id": decision["tip_id"],
        "reward": value,
        "decision_id": decision["decision_id"],
    }


def read_receipt(service: Service, decision: dict[str, Any], user_id: str = "ada") -> dict[str, Any]:
    """Return the receipt of a decision."""
    response = service.client.get(f"/users/{user_id}/decisions/{decision['decision_id']}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def read_counters(service: Service, user_id: str = "ada") -> tuple[int, int, float]:
    """Return pulls, rewards and their sum, of linucb-v1."""
    stats = service.client.get(f"/stats/{user_id}").json()
    return stats["pulls"], stats["reward_count"], stats["cumulative_reward"]


def reward_path(decision: dict[str, Any], user_id: str = "ada") -> str:
    """Return the path at which the reward of a decision is corrected."""
    return f"/users/{user_id}/decisions/{decision['decision_id']}/reward"
