"""State files in the format of the file-based service."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests.policies import DIMENSIONS

SUFFIXES = {LINUCB: "", EPSILON_GREEDY: "_egreedy"}


def content(policy: str = LINUCB, *, seed: int = 0, rewards: int = 9, **meta: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return the content of a file after rewards drawn at random, so that the sums use every bit of a float."""
    rng = np.random.default_rng(seed)
    d = DIMENSIONS[policy]
    X = rng.uniform(-1, 1, (rewards, d))
    r = rng.uniform(-1, 1, rewards)
    A, b = np.eye(d), np.zeros(d)
    for x, reward in zip(X, r, strict=True):
        A += np.outer(x, x)
        b += reward * x
    counters = {
        "pulls": rewards + 3,
        "reward_count": rewards,
        "cumulative_reward": float(r.sum()),
        "explore_count": 2 if policy == EPSILON_GREEDY else 0,
        "last_updated": "2026-03-01T08:30:00.123456+00:00",
    }
    return {"A": A.tolist(), "b": b.tolist(), "meta": counters | meta}


def write_state_file(directory: Path, name: str, policy: str = LINUCB, **wanted: Any) -> dict[str, Any]:  # noqa: ANN401
    """Write the file of a NAME, and return its content."""
    state = content(policy, **wanted)
    (directory / f"{name}{SUFFIXES[policy]}.json").write_text(json.dumps(state), "utf-8")
    return state
