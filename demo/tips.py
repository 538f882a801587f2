"""Tips written by the model: each prompt version is asked for every user who wants tips."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import uuid_utils.compat as uuid_utils

from demo.stage import Stage, track
from demo.users import Candidate, Moment, User, list_tasks
from oo_ml.errors import GatewayError, InvalidReplyError
from oo_ml.services.prompts.generate import GenerateCommand, Generated

VERSIONS = ("v1", "v2-mentor", "v3-few-shot")
TIPS_A_CALL = 3
# Before the first tip of the day.
_HOUR = 6


@dataclass(frozen=True, slots=True)
class Tip:
    """A text about a task, as the model wrote it."""

    id: str
    content: str
    prompt_version: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Written:
    """Each user's tips by version, and the counts of each version's calls."""

    tips: dict[tuple[str, str], list[Tip]] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)
    unusable: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)


async def write_tips(stage: Stage) -> Written:
    """Ask each version for tips about the most urgent task of each user, as of the morning on which they come.

    A reply without the JSON array is counted and passed over: so small a model may never write one.

    Raises:
        OoMlError: a call failed for another reason.
    """
    written = Written()
    calls = [(user, version) for user in stage.users if user.favourite_version for version in VERSIONS]
    for user, version in track(stage.console, "Writing tips", calls):
        moment = stage.moment(stage.first_day(user), _HOUR)
        task = max(list_tasks(user, moment.day, {}), key=lambda task: task.priority)
        try:
            answer = await stage.services.generate(_command(user, version, task, moment))
        except (GatewayError, InvalidReplyError):
            written.unusable[version] += 1
            continue
        _add(written, user, task, answer)
    return written


def list_tips(written: Written, user: User, tasks: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """Return the candidates of each version; a tip has the features that its task has that day."""
    by_id: Mapping[str, Candidate] = {task.id: task for task in tasks}
    return {
        version: [_candidate(tip, by_id[tip.task_id]) for tip in written.tips.get((user.user_id, version), ())]
        for version in VERSIONS
    }


def _command(user: User, version: str, task: Candidate, moment: Moment) -> GenerateCommand:
    about = {
        "content": task.content,
        "priority": task.priority,
        "is_overdue": task.is_overdue,
        "task_age_days": task.task_age_days,
    }
    return GenerateCommand(
        user_id=user.user_id,
        generation_id=uuid_utils.uuid7(nanoseconds=int(moment.at.timestamp()) * 10**9),
        created_at=moment.at,
        context={"hour_of_day": moment.hour, "day_of_week": moment.weekday, "tasks": [about]},
        n=TIPS_A_CALL,
        prompt_version=version,
    )


def _add(written: Written, user: User, task: Candidate, answer: Generated) -> None:
    version = answer.prompt_version
    written.answered[version] += 1
    written.tokens[version] += answer.prompt_tokens + answer.completion_tokens
    written.tips[user.user_id, version] = [Tip(tip.id, tip.content, version, task.id) for tip in answer.tips]


def _candidate(tip: Tip, task: Candidate) -> Candidate:
    return replace(task, id=tip.id, content=tip.content, prompt_version=tip.prompt_version)
