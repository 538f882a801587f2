"""Reference implementation of the two policies, with an explicit inverse and a loop over the candidates."""

import math
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB, draw

ALPHA: Final = 0.7
EXPLORATIONS: Final = {LINUCB: 0.3, EPSILON_GREEDY: 0.4}
PATH_SUFFIXES: Final = {LINUCB: "", EPSILON_GREEDY: "/egreedy"}
LABELS: Final = ["hour_sin", "hour_cos", "is_overdue", "task_age", "priority", "dow_sin", "dow_cos"]
TINY: Final = 1e-9

Numbers = NDArray[np.float64]
Json = dict[str, Any]

_RAW: Final = ("is_overdue", "task_age_days", "priority")


def are_close(found: object, expected: object) -> bool:
    """Return whether two answers are equal, but for the last bits of their floating point numbers."""
    match found, expected:
        case dict(), dict():
            return found.keys() == expected.keys() and all(are_close(found[name], expected[name]) for name in expected)
        case ((list() | tuple()), (list() | tuple())):
            return len(found) == len(expected) and all(map(are_close, found, expected))
        case float(), float():
            return math.isclose(found, expected, rel_tol=TINY, abs_tol=TINY)
    return found == expected


def encode(policy: str, hour: int, weekday: int, task: Json) -> Numbers:
    """Return the features of one candidate, as the contract defines them."""
    x = [
        math.sin(2 * math.pi * hour / 24),
        math.cos(2 * math.pi * hour / 24),
        1.0 if task["is_overdue"] else 0.0,
        max(0.0, min(task["task_age_days"], 30.0)) / 30.0,
        (task["priority"] - 1) / 3.0,
    ]
    if policy == EPSILON_GREEDY:
        x += [math.sin(2 * math.pi * weekday / 7), math.cos(2 * math.pi * weekday / 7)]
    return np.array(x)


def explain_choices(
    policy: str, body: Json, decision_id: str, A: Numbers, b: Numbers, *, is_new: bool
) -> Iterator[Json]:
    """Yield the part of a receipt that explains the choice, once for each candidate that may be the best one.

    Rounding decides among nearly equal scores. A new user (`is_new`) has exactly equal ones: the first one is the best.
    """
    inverse = np.linalg.inv(A)
    candidates, context = body["candidates"], body["context"]
    hour, weekday = context["hour_of_day"], context["day_of_week"]
    rows = [encode(policy, hour, weekday, one["features"]) for one in candidates]
    exploit = [float(x @ inverse @ b) for x in rows]
    explore = [ALPHA * math.sqrt(x @ inverse @ x) if policy == LINUCB else 0.0 for x in rows]
    scores = [one + other for one, other in zip(exploit, explore, strict=True)]
    raw = [{name: one["features"][name] for name in _RAW} for one in candidates]
    n, exploration = len(rows), EXPLORATIONS[policy]
    first, second = draw(UUID(decision_id).int)
    exploring = first < exploration
    best = [place for place in range(n) if scores[place] > max(scores) - TINY]
    for highest in best[:1] if is_new and policy == EPSILON_GREEDY else best:
        chosen = int(second * n) if exploring else highest
        tip_id = candidates[chosen]["id"]
        propensities = [exploration / n + (1 - exploration) * (place == highest) for place in range(n)]
        shown = {"hour_of_day": hour, **raw[chosen]}
        if policy == EPSILON_GREEDY:
            shown |= {"day_of_week": weekday, "exploring": exploring}
        yield {
            "decision_id": decision_id,
            "policy": policy,
            "tip_id": tip_id,
            "content": candidates[chosen]["content"],
            "score": scores[chosen],
            "propensity": sum(propensities[place] for place in range(n) if candidates[place]["id"] == tip_id),
            "exploring": exploring,
            "exploration": exploration,
            "alpha": ALPHA if policy == LINUCB else None,
            "draw": [first, second],
            "prompt_version": None,
            "prompt_probability": None,
            "generation_id": None,
            "context": context,
            "features": shown,
            "x": rows[chosen].tolist(),
            "candidates": [
                {
                    "id": candidates[place]["id"],
                    "source": candidates[place]["source"],
                    "prompt_version": None,
                    "features": raw[place],
                    "exploit": exploit[place],
                    "explore": explore[place],
                    "propensity": propensities[place],
                }
                for place in range(n)
            ],
        }
