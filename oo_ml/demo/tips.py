"""Tips for the people, written by the model: each prompt version is asked a few times for each person."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from oo_ml.demo.client import CallFailedError, Json, call
from oo_ml.demo.people import Offer, Person, tasks_on
from oo_ml.demo.stage import Stage, steps

VERSIONS = ("v1", "v2-mentor", "v3-few-shot")
TIPS_A_CALL = 3
HOURS = (8, 20)


@dataclass(frozen=True, slots=True)
class Tip:
    """Words about a task, as /generate answered them."""

    id: str
    content: str
    prompt_version: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Written:
    """What came out of the calls of /generate: the tips by task and version, and how each version's calls went."""

    tips: dict[tuple[str, str], list[Tip]] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)
    unusable: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)


def write_tips(stage: Stage) -> Written:
    """Ask each version for tips about each person's most and least urgent task.

    A 502 (the model never found to the JSON array) is counted and passed over: so small a model may well not.

    Raises:
        CallFailedError: a call failed in another way.
    """
    written = Written()
    calls = [
        (person, task, version)
        for person in stage.people
        for task in _extremes(tasks_on(person, 0, {}))
        for version in VERSIONS
    ]
    for person, task, version in steps(stage.console, "Writing tips", calls):
        body = _request(person, task, version, hour=int(stage.rng.choice(HOURS)))
        try:
            answer = call(stage.http, "POST", "/generate", body)
        except CallFailedError as error:
            if error.status != httpx.codes.BAD_GATEWAY:
                raise
            written.unusable[version] += 1
            continue
        written.answered[version] += 1
        written.tokens[version] += answer["prompt_tokens"] + answer["completion_tokens"]
        written.tips.setdefault((task.task_id, version), []).extend(
            Tip(tip["id"], tip["content"], answer["prompt_version"], task.task_id) for tip in answer["candidates"]
        )
    return written


def offer_tip(tip: Tip, tasks: Sequence[Offer]) -> Offer:
    """Return the offer of `tip`: words about a task carry the features that the task has that day."""
    task = next(task for task in tasks if task.task_id == tip.task_id)
    return Offer(
        tip.id, tip.content, tip.task_id, task.priority, task.is_overdue, task.task_age_days, tip.prompt_version
    )


def _extremes(tasks: Sequence[Offer]) -> tuple[Offer, Offer]:
    def priority(task: Offer) -> int:
        return task.priority

    return max(tasks, key=priority), min(tasks, key=priority)


def _request(person: Person, task: Offer, version: str, hour: int) -> Json:
    about = {
        "content": task.content,
        "priority": task.priority,
        "is_overdue": task.is_overdue,
        "task_age_days": task.task_age_days,
    }
    return {
        "user_id": person.user_id,
        "n": TIPS_A_CALL,
        "prompt_version": version,
        "context": {"hour_of_day": hour, "day_of_week": 1, "tasks": [about]},
    }
