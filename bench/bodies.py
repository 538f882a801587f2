"""The bodies of calls, as JSON with USER and DECISION where wrk fills in ids."""

import json
from typing import Any, Final

USER: Final = "USER"
DECISION: Final = "DECISION"
REWARD: Final = 0.5
CHOSEN: Final = "tip-0"

_CONTENTS: Final = ("Call the dentist", "Water the plants", "Answer the letter from school", "Take a walk")


def score(candidates: int, *, variant: int = 0, prompt_version: str | None = None) -> str:
    """Return the body of a decision among `candidates` tips. A fresh state chooses the first."""
    origin = {} if prompt_version is None else {"prompt_version": prompt_version}
    return json.dumps(
        {
            "user_id": USER,
            "candidates": [_candidate(number, variant) | origin for number in range(candidates)],
            "context": {"hour_of_day": (9 + variant) % 24, "day_of_week": variant % 7},
        },
        separators=(",", ":"),
    )


def reward() -> str:
    """A reaction to the first candidate."""
    body = {"user_id": USER, "decision_id": DECISION, "tip_id": CHOSEN, "reward": REWARD}
    return json.dumps(body, separators=(",", ":"))


def _candidate(number: int, variant: int) -> dict[str, Any]:
    mixed = number * 7 + variant
    return {
        "id": f"tip-{number}",
        "content": _CONTENTS[mixed % len(_CONTENTS)],
        "source": "todoist" if mixed % 3 else "llm",
        "features": {
            "is_overdue": number == 0 or mixed % 2 == 0,
            "task_age_days": 30 if number == 0 else mixed % 20,
            "priority": 4 if number == 0 else 1 + mixed % 4,
        },
    }
