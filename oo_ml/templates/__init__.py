"""Prompt templates: Jinja2's sandbox, narrowed until a published template can neither fail nor run away in use.

Allowed are text, the variables of language.py and their fields, `if`, `for` (two deep), comparisons, a few filters and
tests. What the client's data does not have is empty, so a template that `check` accepts renders for every context.
"""

from bisect import bisect
from collections.abc import Mapping
from typing import Final

from jinja2 import Template

from oo_ml.domain.identifiers import is_storable, make_storable
from oo_ml.errors import InvalidTemplateError
from oo_ml.templates.language import VARIABLES, compiled, refusals
from oo_ml.templates.values import MAX_ITEMS, allowance, shortened

__all__ = ["MAX_OUTPUT_CHARACTERS", "VARIABLES", "check", "render"]

MAX_OUTPUT_CHARACTERS: Final = 100_000

_TASK: Final[Mapping[str, object]] = {
    "id": "t1",
    "title": "Book the dentist",
    "content": "Book the dentist",
    "project": "Home",
    "due": "2026-11-20",
    "priority": 4,
    "is_overdue": True,
    "task_age_days": 3,
    "tags": ["phone", "health"],
}
_SAMPLE_CONTEXTS: Final[tuple[Mapping[str, object], ...]] = (
    {},
    {"tasks": [_TASK, {}], "hour_of_day": 8, "day_of_week": 1, "extra": {"mood": "tired", "goals": ["sleep"]}},
    # As large as a context gets, so that a template which repeats its data too often is noticed here.
    {
        "tasks": [{**_TASK, "notes": "long " * 50}] * MAX_ITEMS,
        "extra": {str(i): "long " * 100 for i in range(MAX_ITEMS)},
    },
)


def check(source: str) -> None:
    """Accept a template that renders for every context.

    Raises:
        InvalidTemplateError: It would not, or not to something that a model could be sent. The message names the line.
    """
    if not is_storable(source):
        raise InvalidTemplateError("The template holds a NUL or a lone surrogate.")
    template = compiled(source)
    for context in _SAMPLE_CONTEXTS:
        for n in (1, 5):
            text = _rendered(template, _variables(n, context))
            if not text.strip():
                raise InvalidTemplateError("The template renders to nothing, at least for some contexts.")
            if len(text) > MAX_OUTPUT_CHARACTERS:
                raise InvalidTemplateError(
                    f"The template can render to more than {MAX_OUTPUT_CHARACTERS:,} characters."
                )


def render(source: str, *, n: int, context: Mapping[str, object]) -> str:
    """Return the text of a template.

    Args:
        source: A template that `check` has accepted.
        n: How many tips are asked for.
        context: tasks, hour_of_day, day_of_week and extra, as the contract has them; each may be missing.

    Raises:
        InvalidTemplateError: `check` would not have accepted the template.
    """
    return _rendered(compiled(source), _variables(n, context))[:MAX_OUTPUT_CHARACTERS]


def _rendered(template: Template, variables: Mapping[str, object]) -> str:
    """Return the template's text; once it is longer than anyone may use, the rest is not made."""
    pieces, length = [], 0
    with refusals(), allowance():
        for piece in template.generate(variables):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_OUTPUT_CHARACTERS:
                break
    return make_storable("".join(pieces))


def _variables(n: int, context: Mapping[str, object]) -> dict[str, object]:
    hour = context.get("hour_of_day", 12)
    return {
        "n": n,
        "tasks": shortened(context.get("tasks", [])),
        "hour_of_day": shortened(hour),
        "part_of_day": _part_of_day(hour) if isinstance(hour, int) else None,
        "day_of_week": shortened(context.get("day_of_week", 0)),
        "extra": shortened(context.get("extra", {})),
    }


def _part_of_day(hour: int) -> str:
    return ("night", "morning", "afternoon", "evening", "night")[bisect((5, 12, 17, 22), hour)]
