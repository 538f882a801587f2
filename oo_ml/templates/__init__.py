"""Prompt templates: Jinja2's sandbox, restricted so that a published template cannot fail or loop in use.

Templates have text, the variables of language.py and their fields, `if`, `for` (two deep), comparisons, a few filters
and tests. Fields that the data lacks are empty, so a template that `check` accepts renders for every context.
"""

from bisect import bisect
from collections.abc import Mapping
from typing import Final

from jinja2 import Template

from oo_ml.domain.identifiers import is_storable, make_storable
from oo_ml.errors import InvalidTemplateError
from oo_ml.templates.language import VARIABLES, compile_template, translate_errors
from oo_ml.templates.values import MAX_ITEMS, grant_allowance, shorten

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
    # As large as a context can be, to refuse a template that repeats its data too often.
    {
        "tasks": [{**_TASK, "notes": "long " * 50}] * MAX_ITEMS,
        "extra": {str(i): "long " * 100 for i in range(MAX_ITEMS)},
    },
)


def check(source: str) -> None:
    """Accept a template that renders for every context, to a text that a model can be sent.

    Raises:
        InvalidTemplateError: The template does not. The message names the line.
    """
    if not is_storable(source):
        raise InvalidTemplateError("The template holds a NUL or a lone surrogate.")
    template = compile_template(source)
    for context in _SAMPLE_CONTEXTS:
        for n in (1, 5):
            text = _render(template, _build_variables(n, context))
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
        n: The number of tips asked for.
        context: tasks, hour_of_day, day_of_week and extra, as the contract has them; each may be missing.

    Raises:
        InvalidTemplateError: `check` would not have accepted the template.
    """
    return _render(compile_template(source), _build_variables(n, context))[:MAX_OUTPUT_CHARACTERS]


def _render(template: Template, variables: Mapping[str, object]) -> str:
    """Return the template's text; stop rendering once it is longer than MAX_OUTPUT_CHARACTERS."""
    pieces, length = [], 0
    with translate_errors(), grant_allowance():
        for piece in template.generate(variables):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_OUTPUT_CHARACTERS:
                break
    return make_storable("".join(pieces))


def _build_variables(n: int, context: Mapping[str, object]) -> dict[str, object]:
    hour = context.get("hour_of_day", 12)
    return {
        "n": n,
        "tasks": shorten(context.get("tasks", [])),
        "hour_of_day": shorten(hour),
        "part_of_day": _part_of_day(hour) if isinstance(hour, int) else None,
        "day_of_week": shorten(context.get("day_of_week", 0)),
        "extra": shorten(context.get("extra", {})),
    }


def _part_of_day(hour: int) -> str:
    return ("night", "morning", "afternoon", "evening", "night")[bisect((5, 12, 17, 22), hour)]
