"""Short bodies of calls, and an example of every call that uses the database."""

from typing import Any


def score(user_id: str = "ada", **overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a decision between two candidates; a fresh state chooses the first."""
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
    """Return a reward for t1."""
    return {
        "user_id": user_id,
        "tip_id": "t1",
        "reward": value,
        "features": {"hour_of_day": 9, "priority": 4},
        "day_of_week": 2,
        **overrides,
    }


_DECISION = "/users/ada/decisions/01a207ac-5779-7446-ab27-aa4ca4d9dd7a"

# Every call that uses the database, by its operationId: method, path, body.
EVERY: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "score": ("POST", "/score", score()),
    "scoreEgreedy": ("POST", "/score/egreedy", score()),
    "scoreBatch": ("POST", "/score/batch", {"items": [score()]}),
    "reward": ("POST", "/reward", reward()),
    "rewardEgreedy": ("POST", "/reward/egreedy", reward()),
    "rewardBatch": ("POST", "/reward/batch", {"items": [reward()]}),
    "generate": ("POST", "/generate", {"user_id": "ada"}),
    "reset": ("POST", "/reset/ada", None),
    "getStats": ("GET", "/stats/ada", None),
    "getStatsEgreedy": ("GET", "/stats/egreedy/ada", None),
    "getFeatures": ("GET", "/features/ada", None),
    "eraseUser": ("DELETE", "/users/ada", None),
    "exportUser": ("GET", "/users/ada/export", None),
    "verifyUser": ("GET", "/users/ada/verify", None),
    "listDecisions": ("GET", "/users/ada/decisions", None),
    "getDecision": ("GET", _DECISION, None),
    "amendReward": ("PUT", f"{_DECISION}/reward", {"reward": 0.5}),
    "retractReward": ("DELETE", f"{_DECISION}/reward", None),
    "getReactionRates": ("GET", "/analytics/reaction-rates", None),
    "getPolicyValues": ("GET", "/analytics/policy-values", None),
    "getRewardsByDay": ("GET", "/analytics/rewards-by-day", None),
    "getLearningCurve": ("GET", "/analytics/learning-curve", None),
    "getPromptCosts": ("GET", "/analytics/prompt-costs", None),
    "getLoopHealth": ("GET", "/analytics/loop-health", None),
    "getFilters": ("GET", "/analytics/filters", None),
    "listPrompts": ("GET", "/prompts", None),
    "getPrompt": ("GET", "/prompts/v1", None),
    "publishPrompt": ("POST", "/prompts", {"version": "v9", "system_template": "Be brief.", "user_template": "Tips."}),
    "getReadiness": ("GET", "/readyz", None),
}
