"""Bodies of every call that takes one, with every field, for tests of any field."""

import json
from collections.abc import Iterator
from typing import Any, get_args

import httpx

from oo_ml.api.decisions.batch_schemas import OF_POLICY, RewardBatch, ScoreBatch, kind_of
from oo_ml.api.decisions.schemas import CorrectionRequest, RewardRequest, ScoreRequest
from oo_ml.api.policies.schemas import PolicyRewardRequest, PolicyScoreRequest, PublishPolicyRequest
from oo_ml.api.prompts.schemas import GenerateRequest, PublishRequest
from oo_ml.api.schemas import Body
from tests import calls
from tests.api.decisions.decisions import new_id
from tests.serving import Service

Place = tuple[str | int, ...]

DECISION = "/users/ada/decisions/01a207ac-5779-7446-ab27-aa4ca4d9dd7a"

FEATURES = {"hour_of_day": 9, "is_overdue": True, "task_age_days": 3.5, "priority": 4}
CANDIDATE = {
    "id": "t1",
    "content": "Call the dentist",
    "source": "todoist",
    "source_id": "8",
    "features": FEATURES,
    "prompt_version": "v1",
}
SCORE = calls.score(candidates=[CANDIDATE, CANDIDATE], decision_id=new_id())
REWARD = calls.reward(features=FEATURES)
# Free fields: any name will do.
FIELDS = {"hour": 9, "Hour": 9, "tags": ["a"], "isOverdue": True, "none": None}
POLICY_SCORE = calls.score_articles(
    context=FIELDS,
    candidates=[{"id": "a1", "features": FIELDS, "content": "x", "prompt_version": "v1"}] * 2,
    decision_id=new_id(),
)
POLICY_REWARD = calls.reward_article(context=FIELDS, features=FIELDS)
UNIFORM = {"policy": "uniform-v1"}
BODIES: dict[str, tuple[type[Body], dict[str, Any]]] = {
    "/score": (ScoreRequest, SCORE),
    "/score/egreedy": (ScoreRequest, SCORE),
    "/policies": (PublishPolicyRequest, calls.publish_policy()),
    "/policies/uniform-v1/score": (PolicyScoreRequest, POLICY_SCORE),
    "/policies/uniform-v1/reward": (PolicyRewardRequest, POLICY_REWARD | {"decision_id": new_id()}),
    "/score/batch": (
        ScoreBatch,
        {"items": [calls.score("ben"), SCORE | {"policy": "linucb-v1"}, POLICY_SCORE | UNIFORM | {"user_id": "cem"}]},
    ),
    "/reward": (RewardRequest, REWARD | {"decision_id": new_id()}),
    "/reward/egreedy": (RewardRequest, REWARD),
    "/reward/batch": (
        RewardBatch,
        {
            "items": [
                calls.reward("ben"),
                REWARD | {"policy": "linucb-v1", "idempotency_key": "k", "decision_id": new_id()},
                POLICY_REWARD | UNIFORM | {"idempotency_key": "k", "decision_id": new_id()},
            ]
        },
    ),
    "/generate": (
        GenerateRequest,
        {
            "user_id": "ada",
            # Free JSON: any name will do.
            "context": {"hour_of_day": 9, "day_of_week": 1, "tasks": [{"isOverdue": 1}], "extra": {"Tasks": 1}},
            "n": 2,
            "prompt_version": "v1",
        },
    ),
    "/prompts": (
        PublishRequest,
        {
            "version": "v9",
            "description": "",
            "system_template": "s",
            "user_template": "u {{ n }}",
            "model": "m",
            "temperature": 0.5,
            "max_tokens": 100,
            "response_format": "none",
            "stop": ["."],
        },
    ),
    f"{DECISION}/reward": (CorrectionRequest, {"reward": 1}),
}


def send(service: Service, path: str, body: object) -> httpx.Response:
    """Send a body to a call."""
    return service.client.request("POST" if path in BODIES and "/users" not in path else "PUT", path, json=body)


def places(model: type[Body], value: Any, place: Place = ()) -> Iterator[tuple[type[Body], Place]]:  # noqa: ANN401 - JSON
    """Yield each field of a body, and the model that it belongs to."""
    for name, inner in value.items():
        yield model, (*place, name)
        if models := list(_find_models(model.model_fields[name].annotation)):
            for index, one in enumerate(inner) if isinstance(inner, list) else ((None, inner),):
                part = models[-1] if kind_of(one) == OF_POLICY else models[0]
                yield from places(part, one, (*place, name) if index is None else (*place, name, index))


def _find_models(annotation: object) -> Iterator[type[Body]]:
    """Yield the models within an annotation; of items of a batch the contract's first."""
    if isinstance(annotation, type) and issubclass(annotation, Body):
        yield annotation
    for part in get_args(annotation):
        yield from _find_models(part)


def change_field(body: dict[str, Any], place: Place, name: str | None, value: object = ...) -> dict[str, Any]:
    """Return a body with the field at a place under another name, or with one more field beside it."""
    whole: dict[str, Any] = json.loads(json.dumps(body))
    inner: Any = whole
    for part in place[:-1]:
        inner = inner[part]
    inner[name] = inner.pop(place[-1]) if value is ... else value
    return whole
