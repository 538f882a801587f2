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


# A policy of another use than to-dos: a category, hashed tags and a cyclic hour, a product of two, and a vote.
ARTICLES = "articles-v1"
DEFINITION: dict[str, Any] = {
    "inputs": [
        {"name": "hour", "of": "context", "encoding": "cyclic", "period": 24},
        {"name": "topic", "of": "candidate", "encoding": "category", "values": ["news", "sport"]},
        {"name": "tags", "of": "candidate", "encoding": "hashed", "buckets": 4, "missing": []},
    ],
    "terms": [{"one": True}, {"input": "topic"}, {"input": "tags"}, {"product": ["topic", "hour"], "times": 0.5}],
    "rule": {"alpha": 1.0, "sigma": 0.3, "exploration": 0.02},
}


def publish_policy(policy: str = ARTICLES, **overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the publication of a policy that chooses articles."""
    return {"policy": policy, "description": "Articles", "definition": DEFINITION, **overrides}


def score_articles(user_id: str = "ada", **overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a decision between two articles."""
    return {
        "user_id": user_id,
        "context": {"hour": 9.5},
        "candidates": [
            {"id": "a1", "features": {"topic": "news", "tags": ["city", "traffic"]}},
            {"id": "a2", "features": {"topic": "sport"}},
        ],
        **overrides,
    }


def reward_article(user_id: str = "ada", *, value: float = 1.0, **overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a reward for the first article."""
    return {
        "user_id": user_id,
        "tip_id": "a1",
        "reward": value,
        "context": {"hour": 9.5},
        "features": {"topic": "news", "tags": ["city", "traffic"]},
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
    "getPolicyLift": ("GET", "/analytics/policy-lift", None),
    "getPolicyTrafficByDay": ("GET", "/analytics/policy-traffic-by-day", None),
    "getRewardsByDay": ("GET", "/analytics/rewards-by-day", None),
    "getLearningCurve": ("GET", "/analytics/learning-curve", None),
    "getPriorHistory": ("GET", "/analytics/prior-history", None),
    "getLearningByPrior": ("GET", "/analytics/learning-by-prior", None),
    "getPromptCosts": ("GET", "/analytics/prompt-costs", None),
    "getLoopHealth": ("GET", "/analytics/loop-health", None),
    "getFilters": ("GET", "/analytics/filters", None),
    "listPrompts": ("GET", "/prompts", None),
    "getPrompt": ("GET", "/prompts/v1", None),
    "publishPrompt": ("POST", "/prompts", {"version": "v9", "system_template": "Be brief.", "user_template": "Tips."}),
    "listPolicies": ("GET", "/policies", None),
    "getPolicy": ("GET", "/policies/uniform-v1", None),
    "publishPolicy": ("POST", "/policies", publish_policy()),
    "scorePolicy": ("POST", "/policies/uniform-v1/score", score_articles()),
    "rewardPolicy": ("POST", "/policies/uniform-v1/reward", reward_article()),
    "listPriors": ("GET", "/policies/pooled-v1/priors", None),
    "getPolicyUser": ("GET", "/policies/uniform-v1/users/ada", None),
    "getReadiness": ("GET", "/readyz", None),
}
