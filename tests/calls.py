"""Bodies of calls, as short as a test can be."""

from typing import Any


def score(user_id: str = "ada", **overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Two candidates, of which the first one wins while nothing is known."""
    return {
        "user_id": user_id,
        "candidates": [
            {"id": "t1", "content": "Call the dentist", "source": "todoist", "features": {"priority": 4}},
            {"id": "t2", "content": "Water the plants", "source": "todoist"},
        ],
        "context": {"hour_of_day": 9, "day_of_week": 2},
        **overrides,
    }


def reward(user_id: str = "ada", *, value: float = 1.0, **overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The reaction to t1."""
    return {
        "user_id": user_id,
        "tip_id": "t1",
        "reward": value,
        "features": {"hour_of_day": 9, "priority": 4},
        "day_of_week": 2,
        **overrides,
    }
