"""Tips for the people, written by the model: each prompt version is asked for everybody who wants them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import uuid_utils.compat as uuid_utils

from demo.people import Moment, Offer, Person, tasks_on
from demo.stage import Stage, steps
from oo_ml.errors import GatewayError, InvalidReplyError
from oo_ml.services.prompts.generate import GenerateCommand, Generated

VERSIONS = ("v1", "v2-mentor", "v3-few-shot")
TIPS_A_CALL = 3
# Before the day's first tip.
_HOUR = 6


@dataclass(frozen=True, slots=True)
class Tip:
    """Words about a task, as the model wrote them."""

    id: str
    content: str
    prompt_version: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Written:
    """What came of asking: each person's tips by version, and how each version's calls went."""

    tips: dict[tuple[str, str], list[Tip]] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)
    unusable: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)


async def write_tips(stage: Stage) -> Written:
    """Ask each version for tips about people's most urgent task, as of the morning on which they come.

    Where the model never finds to the JSON array that is counted and passed over: so small a model may well not.

    Raises:
        OoMlError: a call failed in another way.
    """
    written = Written()
    calls = [(person, version) for person in stage.people if person.favourite_version for version in VERSIONS]
    for person, version in steps(stage.console, "Writing tips", calls):
        moment = stage.moment(stage.first_day(person), _HOUR)
        task = max(tasks_on(person, moment.day, {}), key=lambda task: task.priority)
        try:
            answer = await stage.services.generate(_command(person, version, task, moment))
        except (GatewayError, InvalidReplyError):
            written.unusable[version] += 1
            continue
        _add(written, person, task, answer)
    return written


def offer_tips(written: Written, person: Person, tasks: Sequence[Offer]) -> dict[str, list[Offer]]:
    """Return what may be offered of each version: words about a task carry the features that the task has that day."""
    by_id: Mapping[str, Offer] = {task.id: task for task in tasks}
    return {
        version: [_offer(tip, by_id[tip.task_id]) for tip in written.tips.get((person.user_id, version), ())]
        for version in VERSIONS
    }


def _command(person: Person, version: str, task: Offer, moment: Moment) -> GenerateCommand:
    about = {
        "content": task.content,
        "priority": task.priority,
        "is_overdue": task.is_overdue,
        "task_age_days": task.task_age_days,
    }
    return GenerateCommand(
        user_id=person.user_id,
        generation_id=uuid_utils.uuid7(nanoseconds=int(moment.at.timestamp()) * 10**9),
        created_at=moment.at,
        context={"hour_of_day": moment.hour, "day_of_week": moment.weekday, "tasks": [about]},
        n=TIPS_A_CALL,
        prompt_version=version,
    )


def _add(written: Written, person: Person, task: Offer, answer: Generated) -> None:
    version = answer.prompt_version
    written.answered[version] += 1
    written.tokens[version] += answer.prompt_tokens + answer.completion_tokens
    written.tips[person.user_id, version] = [Tip(tip.id, tip.content, version, task.id) for tip in answer.tips]


def _offer(tip: Tip, task: Offer) -> Offer:
    return Offer(tip.id, tip.content, task.id, task.priority, task.is_overdue, task.task_age_days, tip.prompt_version)
